"""The page as a folder of files that any web server can show: the model runs in the visitor's browser."""

import json
from pathlib import Path

from kdedge.card import ModelCard
from kdedge.errors import RunError
from kdedge.files import sha256_of, write_bytes
from kdedge.runtime.models import RUN, ZOO, default_model, export_name
from kdedge.runtime.session import open_session
from kdedge.runtime.web.assets import own_files, site_json
from kdedge.runtime.web.ort_web import COMMAND, find_runtime

__all__ = ["export_static", "model_for_browser"]

HEADERS = """/*
  Cross-Origin-Opener-Policy: same-origin
  Cross-Origin-Embedder-Policy: require-corp
"""
"""Of Netlify and Cloudflare Pages, which read this file: WebAssembly gets threads only with these two. Elsewhere it does
nothing, and the page runs on one thread."""


def export_static(model: str | Path, out: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Write the page, its model and onnxruntime-web into a folder; the page is written last.

    Args:
        model: an ``.onnx`` file with a card, a run directory, or a name of the zoo; see :func:`model_for_browser`.
        out: the folder, made if absent. The site works from any path of any host.
        overwrite: whether to write into a folder that holds something; files of other names stay.

    Returns:
        What was written.

    Raises:
        RunError: onnxruntime-web was not fetched, or ``out`` is a file, holds something, or cannot be written.
        ModelError, CardError: no such model, or one without a card.
    """
    out = Path(out)
    runtime = find_runtime()
    if runtime is None:
        raise RunError(f"a static site needs onnxruntime-web, which is fetched once with '{COMMAND}'.")
    path = model_for_browser(model)
    card = ModelCard.from_metadata(open_session(path, 1).get_modelmeta().custom_metadata_map, path)
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: a file is there; name a folder to write the site to.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise RunError(f"{out}: the folder is not empty; give another one, or --overwrite.")
    digest = sha256_of(path)
    described = {**card.to_dict(), "bytes": path.stat().st_size, "sha256": digest}
    files = {
        **{site: file.read_bytes() for site, file in runtime.paths().items()},
        "model.onnx": path.read_bytes(),
        "model.json": json.dumps(described, ensure_ascii=False, allow_nan=False, indent=1).encode(),
        "_headers": HEADERS.encode(),
        # browsers keep files for a while: another model gets another address
        "site.json": site_json("static", f"model.json?{digest[:12]}", f"model.onnx?{digest[:12]}", runtime),
        **own_files(),
    }
    order = sorted(files, key=lambda name: (name == "index.html", name))
    try:
        for name in order:
            write_bytes(out / name, files[name])
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error}).") from error
    return [out / name for name in order]


def model_for_browser(model: str | Path) -> Path:
    """The file to run in a browser: of a run directory the one made for it (``--target web``), if there is one.

    A file is taken as given; a name of the zoo, or a run without such an export, as :func:`default_model` takes it.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        for stem in (RUN, ZOO):
            for precision in ("int8", "fp32"):
                path = folder / export_name("web", precision, stem)
                if path.is_file():
                    return path
    return default_model(str(model))[0]
