"""A parsed report: for tests that look at what a reader gets."""

from html.parser import HTMLParser

__all__ = ["Page", "spoken"]

VOID = {"br", "img", "meta", "wbr"}


class Page(HTMLParser):
    """Checks that tags are balanced; keeps attributes, text by tag, and headings."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.heads: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in {"h1", "h2", "h3"}:
            self.heads.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if self.open and self.open[-1] in {"h1", "h2", "h3"}:
            self.heads[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def spoken(page: Page) -> str:
    """Names of the charts, one after the other."""
    return " | ".join(str(chart["aria-label"]) for chart in page.all("svg"))
