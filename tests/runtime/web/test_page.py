"""The static site in Chromium: what a visitor does, and what the page does then."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from kdedge.runtime.web.ort_web import Runtime
from kdedge.runtime.web.static import export_static
from tests.conftest import COLORS
from tests.runtime.web.browser import Watch, serving

DROP = """(files) => {
  const data = new DataTransfer();
  for (const { name, type, text } of files) {
    const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    data.items.add(new File([bytes], name, { type }));
  }
  const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  document.getElementById("stage").dispatchEvent(event);
}"""


def dropped(page: Page, *files: Path) -> None:
    """Drop files on the page."""
    from base64 import b64encode

    kinds = {".png": "image/png", ".txt": "text/plain"}
    given = [
        {"name": each.name, "type": kinds[each.suffix], "text": b64encode(each.read_bytes()).decode()} for each in files
    ]
    page.evaluate(DROP, given)


@pytest.fixture
def site(runtime: Runtime, color_model: Path, tmp_path: Path) -> Path:
    """A site that lies below another."""
    export_static(color_model, tmp_path / "root" / "some where" / "site")
    return tmp_path / "root" / "some where" / "site"


def pictures(color_images: Path, folder: Path) -> list[Path]:
    """One of each colour, named after it."""
    found = []
    for name in COLORS:
        found.append(folder / f"{name}.png")
        found[-1].write_bytes((color_images / name / "0.png").read_bytes())
    return found


def test_a_visit(site: Path, color_images: Path, context: BrowserContext, tmp_path: Path) -> None:
    blue, green, red = pictures(color_images, tmp_path)
    note = tmp_path / "note.txt"
    note.write_text("no image")
    with serving(site.parents[1]) as root:
        page = context.new_page()
        watch = Watch.over(page)
        page.goto(f"{root}/some where/site/")
        expect(page.locator("#facts")).to_contain_text("onnxruntime-web")
        expect(page.locator("#facts")).to_contain_text("first run")
        expect(page).to_have_title("colors")
        assert page.is_hidden("#places")  # there is no server to choose
        context.set_offline(True)  # all is here by now

        dropped(page, red)
        expect(page.locator("#label")).to_have_text("red")
        expect(page.locator("#caption")).to_have_text("red.png")
        expect(page.locator("#status")).to_have_text(f"red, {page.inner_text('#probability')}")
        assert page.locator("#bars li").count() == 3
        assert page.locator("#bars .name").first.inner_text() == "red"
        widths = page.locator("#bars .fill").evaluate_all("all => all.map((each) => parseFloat(each.style.width))")
        assert widths == sorted(widths, reverse=True)
        assert sum(widths) == pytest.approx(100, abs=0.1)
        for part in ("decode", "preprocess", "inference", "in all"):
            expect(page.locator("#times")).to_contain_text(part)
        seen = page.locator("#seen").bounding_box()  # the pictures are 24 x 20: a square is cut out
        drawn = page.locator("#image").bounding_box()
        assert seen is not None
        assert drawn is not None
        assert seen["width"] == pytest.approx(drawn["width"] * 20 / 24, abs=1)
        assert seen["height"] == pytest.approx(drawn["height"], abs=1)

        page.set_input_files("#files", [blue, note, green])
        expect(page.locator("#past li")).to_have_count(3)
        expect(page.locator("#label")).to_have_text("green")
        expect(page.locator("#problem")).to_contain_text("note.txt (text/plain) is not an image")
        expect(page.locator("#past canvas")).to_have_count(3)

        page.locator("#past button").last.focus()
        page.keyboard.press("Enter")  # back to the first
        expect(page.locator("#label")).to_have_text("red")
        expect(page.locator("#problem")).to_be_hidden()
        assert page.locator("#past button[aria-current]").get_attribute("aria-label") == "red.png: red"
        with page.expect_download() as download:
            page.click("#save")
        lines = Path(download.value.path()).read_text().splitlines()
        assert lines[0] == "image,label,probability,unknown,where,ms"
        assert [line.split(",")[:2] for line in lines[1:]] == [
            [f"{name}.png", name] for name in ("red", "blue", "green")
        ]
        page.click("#forget")
        expect(page.locator("#history")).to_be_hidden()
        assert watch.said == []
        assert watch.elsewhere(root) == []


def test_the_camera(site: Path, context: BrowserContext) -> None:
    """Chromium's fake camera shows green."""
    with serving(site.parents[1]) as root:
        page = context.new_page()
        watch = Watch.over(page)
        page.goto(f"{root}/some where/site/")
        page.click("#camera")
        expect(page.locator("#rate")).to_contain_text("frames/s")
        expect(page.locator("#label")).to_have_text("green")
        expect(page.locator("#camera")).to_have_text("Stop the camera")
        before = page.inner_text("#rate"), page.inner_text("#total")
        page.wait_for_timeout(300)
        assert before != (page.inner_text("#rate"), page.inner_text("#total"))  # it goes on
        track = page.evaluate_handle("document.getElementById('video').srcObject.getTracks()[0]")
        page.click("#camera")
        expect(page.locator("#invitation")).to_be_visible()
        assert track.evaluate("(track) => track.readyState") == "ended"
        assert watch.said == []

        for error, words in (
            ("NotAllowedError", "not allowed"),
            ("NotFoundError", "No camera"),
            ("NotReadableError", "another program"),
        ):
            page.evaluate(
                "(name) => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', name)); }",
                error,
            )
            page.click("#camera")
            expect(page.locator("#problem")).to_contain_text(words)
            expect(page.locator("#camera")).to_have_text("Use the camera")
        page.evaluate("Object.defineProperty(window, 'isSecureContext', { value: false })")
        page.click("#camera")
        expect(page.locator("#problem")).to_contain_text("https:// or localhost only")
        assert watch.elsewhere(root) == []


def test_a_site_that_is_not_whole(site: Path, context: BrowserContext, color_images: Path, tmp_path: Path) -> None:
    red = pictures(color_images, tmp_path)[-1]
    with serving(site) as root:
        page = context.new_page()
        broken = True

        def answer(route: Route) -> None:
            route.abort() if broken else route.continue_()

        page.route("**/*.wasm", answer)
        page.goto(root)
        expect(page.locator("#problem")).to_contain_text("could not be fetched")
        broken = False
        page.click("#again")
        expect(page.locator("#facts")).to_contain_text("first run")
        expect(page.locator("#problem")).to_be_hidden()
        dropped(page, red)
        expect(page.locator("#label")).to_have_text("red")

        (site / "model.onnx").write_bytes(b"\x08\x08")
        page.reload()
        expect(page.locator("#problem")).to_contain_text("cannot run this model")


def test_small_and_large_screens(site: Path, context: BrowserContext, color_images: Path, tmp_path: Path) -> None:
    """Nothing is wider than the screen; what can be pressed has a name and is large enough for a finger."""
    card = json.loads((site / "model.json").read_text())
    card["name"] = "a rather long name of a model " * 3
    card["labels"] = ["an_exceedingly_long_label_without_a_single_space_in_it" * 2, "green", "red"]
    card["notes"] = "Notes. " * 60
    (site / "model.json").write_text(json.dumps(card))
    blue = pictures(color_images, tmp_path)[0]
    with serving(site) as root:
        page = context.new_page()
        page.goto(root)
        dropped(page, blue)
        expect(page.locator("#past canvas")).to_have_count(1)
        for width in (320, 390, 768, 1200):
            page.set_viewport_size({"width": width, "height": 700})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.set_viewport_size({"width": 390, "height": 700})
        for control in page.locator("button:visible, .button:visible, summary:visible").all():
            box = control.bounding_box()
            assert box is not None
            assert box["height"] >= 24
            assert control.inner_text().strip() or control.get_attribute("aria-label")
