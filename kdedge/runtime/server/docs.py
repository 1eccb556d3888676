"""The description of the API as one page, made on the server: the usual viewers load scripts from elsewhere."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["DOCS_POLICY", "docs_page"]

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:52rem;padding:0 1rem;color:#1a1c20;background:#fff}
h2{margin:2.2rem 0 .4rem;font-size:1.05rem}h2 b{color:#0b5cad;margin-right:.6rem}
code,pre{font:.88em ui-monospace,monospace;background:#f2f4f7;border-radius:4px}code{padding:.1em .3em}
pre{padding:.8rem;overflow:auto}
table{border-collapse:collapse;width:100%;margin:.6rem 0}
td,th{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #e3e6ea;font-size:.94rem}
@media(prefers-color-scheme:dark){body{color:#e6e8eb;background:#15171a}code,pre{background:#23262b}
td,th{border-color:#33373d}h2 b,a{color:#7db7f2}}
"""

DOCS_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'"
)

EXAMPLES = {
    "/v1/classify": """curl -F files=@one.jpg -F files=@two.png '{base}/v1/classify?top=3'
curl -H 'Content-Type: image/jpeg' --data-binary @one.jpg {base}/v1/classify""",
    "/v1/model.onnx": "curl -o model.onnx {base}/v1/model.onnx",
}


def docs_page(openapi: Mapping[str, Any], base: str) -> str:
    """HTML of an OpenAPI description.

    Args:
        openapi: as FastAPI makes it.
        base: where the server is, for the examples.
    """
    info = openapi["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style>",
        f"<h1>{escape(info['title'])}</h1>{_text(info.get('description', ''))}",
        "<p>Machine-readable: <a href=/openapi.json>/openapi.json</a></p>",
    ]
    for path, methods in openapi["paths"].items():
        for method, told in methods.items():
            parts.append(f"<h2><b>{escape(method.upper())}</b><code>{escape(path)}</code></h2>")
            parts.append(_text(told.get("description") or told.get("summary", "")))
            rows = [
                (
                    f"<code>{escape(one['name'])}</code>",
                    escape(_kind(one["schema"])),
                    escape(one.get("description", "")),
                )
                for one in told.get("parameters", [])
            ]
            parts.append(_table(("Query", "Kind", ""), rows))
            kinds = told.get("requestBody", {}).get("content", {})
            parts.append(_table(("Body",), [(f"<code>{escape(kind)}</code>",) for kind in kinds]))
            answers = told.get("responses", {}).items()
            parts.append(_table(("Status", ""), [(escape(code), escape(one["description"])) for code, one in answers]))
            if example := EXAMPLES.get(path):
                parts.append(f"<pre>{escape(example.format(base=base))}</pre>")
    return "\n".join(part for part in parts if part)


def _text(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())


def _kind(schema: Mapping[str, Any]) -> str:
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    default = [f"default {str(schema['default']).lower()}"] if "default" in schema else []
    return ", ".join([str(schema.get("type", "")), *bounds, *default])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
