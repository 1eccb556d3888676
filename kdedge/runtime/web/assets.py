"""The files of the page, in memory: what a server answers with, and what an export writes."""

import json
from importlib.resources import files

from kdedge import __version__
from kdedge.runtime.web.ort_web import COMMAND, Runtime, find_runtime

__all__ = ["CSP", "own_files", "page_files", "site_json"]

CSP = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'"
)
"""The page's Content-Security-Policy, as it stands in its head, too: no other host, no script but its own files."""

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
}


def page_files() -> dict[str, tuple[bytes, str]]:
    """All files of the page of a server: path below ``/`` to (bytes, media type).

    ``index.html`` is what ``/`` shows. The page calls ``v1/model``, ``v1/model.onnx`` and ``v1/classify``, all relative to
    itself. onnxruntime-web is among the files if it was fetched; the page says how to get it if not.
    """
    runtime = find_runtime()
    found = own_files()
    found["site.json"] = site_json("server", "v1/model", "v1/model.onnx", runtime)
    if runtime:
        found.update({site: path.read_bytes() for site, path in runtime.paths().items()})
    return {path: (data, TYPES[path.rpartition(".")[2]]) for path, data in found.items()}


def own_files() -> dict[str, bytes]:
    """What was written for the page, without what depends on where it is: name to bytes."""
    folder = files("kdedge.runtime.web") / "page"
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.rpartition(".")[2] in TYPES}


def site_json(mode: str, card: str, network: str, runtime: Runtime | None) -> bytes:
    """What the page asks for first.

    Args:
        mode: ``server`` or ``static``, which has no server to classify.
        card, network: URLs, relative to the page.
        runtime: onnxruntime-web; None leaves it out.
    """
    value = {
        "kdedge": __version__,
        "mode": mode,
        "card": card,
        "network": network,
        "runtime": runtime.describe() if runtime else None,
        "install": COMMAND,
    }
    return json.dumps(value, indent=1).encode()
