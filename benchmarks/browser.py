"""Models in headless Chromium with onnxruntime-web, as the page of ``kdedge serve`` runs them.

Each file gets a site of its own (``kdedge serve --export-static``); all of them are opened by one page and take turns, one
picture each. That is done without the headers that allow WebAssembly threads, and once more with them where there are cores
for it. onnxruntime runs the same files afterwards, in this process and on one thread: that is what a browser costs. What the
two say of the picture is compared.
"""

import argparse
import functools
import os
import shutil
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.common import RESULTS, all_conditions, conditions_line, markdown_table, slug, write_results
from kdedge.errors import KdedgeError, RunError
from kdedge.preprocess import decode
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.latency import measure
from kdedge.runtime.web.ort_web import VERSION
from kdedge.runtime.web.static import export_static, model_for_browser

STAGES = ("decode", "preprocess", "inference")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")

MEASURE = """async ([folders, picture, repeats, settle]) => {
  const blob = await (await fetch(picture)).blob();
  const opened = [];
  for (const folder of folders) {
    const { openSite, openCard } = await import(`${folder}/site.js`);
    const { BrowserPlace } = await import(`${folder}/browser.js`);
    const site = await openSite();
    const place = new BrowserPlace(site, await openCard(site));
    opened.push({ place, info: await place.prepare(() => {}), samples: [], answer: null });
  }
  for (let turn = -settle; turn < repeats; turn++) {
    const order = turn % 2 ? opened : [...opened].reverse();
    for (const each of order) {
      const { ms, total, top } = await each.place.classify(blob, { top: 5 });
      each.answer = top;
      if (turn >= 0) each.samples.push({ ...ms, total });
    }
  }
  return opened.map(({ info, samples, answer }) => ({ ...info, samples, answer }));
}"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "models", nargs="+", help=".onnx files with cards; a run directory stands for its file for browsers"
    )
    options.add_argument("--picture", type=Path, help="what to classify; by default a JPEG of 640x480 made for it")
    options.add_argument("--repeats", type=int, default=200, help="pictures of each file, at least 20")
    options.add_argument("--chromium", help="the browser; by default the one that is installed")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write JSON and Markdown, return the path of the latter."""
    given = parser().parse_args(arguments)
    if given.repeats < 20:
        parser().error("--repeats must be at least 20: a median of fewer says little.")
    browser = given.chromium or next(
        (path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None
    )
    if browser is None:
        raise RunError("there is no Chromium here; install it or name it with --chromium.")
    models = [model_for_browser(name) for name in given.models]
    known = all_conditions()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        picture = root / "picture.jpg"
        picture.write_bytes(given.picture.read_bytes() if given.picture else photograph())
        for place, model in enumerate(models):
            export_static(model, root / str(place))
        rows = []
        for isolated in (False, True)[: 1 + ((os.cpu_count() or 1) >= 4)]:
            found, name = in_chromium(browser, root, len(models), given.repeats, isolated)
            rows += [row(models[i], each, isolated) for i, each in enumerate(found)]
        own = natively(models, picture, given.repeats)
    known |= {"browser": name, "onnxruntime_web": VERSION, "repeats": given.repeats}
    for each in rows:
        each["native"] = own[each.pop("place")]
    data = {"rows": rows, "picture": str(given.picture.name) if given.picture else "made, 640x480", "conditions": known}
    return write_results(given.results, f"browser-{slug(known)}", data, markdown(data))


def photograph() -> bytes:
    """A JPEG of 640x480 with soft shapes and noise."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (20, 27, 3), dtype=np.uint8)
    soft = cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC).astype(int)
    image = np.clip(soft + rng.integers(-12, 13, soft.shape), 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", image)[1].tobytes())


@contextmanager
def serving(folder: Path, isolated: bool) -> Iterator[str]:
    """The URL of a web server over a folder."""

    class Handler(SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            if isolated:
                self.send_header("Cross-Origin-Opener-Policy", "same-origin")
                self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def in_chromium(
    browser: str, root: Path, models: int, repeats: int, isolated: bool
) -> tuple[list[dict[str, Any]], str]:
    """What the page measured of each site ``0``, ``1``, ..., and the browser's version."""
    from playwright.sync_api import sync_playwright

    with serving(root, isolated) as url, sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=list(ARGUMENTS))
        page = started.new_page()
        page.goto(f"{url}/0/model.json")  # a page of the site without its scripts, which would start a network, too
        folders = [f"{url}/{place}" for place in range(models)]
        found = page.evaluate(MEASURE, [folders, f"{url}/picture.jpg", repeats, 10])
        name = f"Chromium {started.version}, headless"
        started.close()
    return found, name


def row(model: Path, found: dict[str, Any], isolated: bool) -> dict[str, Any]:
    """Medians of one file."""
    card = Classifier(model, 1, provider="cpu").card
    samples = found["samples"]
    return {
        "place": str(model),
        "model": card.student or card.name,
        "file": model.name,
        "precision": card.precision,
        "size": card.preprocess.size,
        "bytes": model.stat().st_size,
        "runtime_bytes": found["bytes"]["runtime"],
        "isolated": isolated,
        "threads": found["threads"],
        "start_ms": {"session": found["ms"]["session"], "first": found["ms"]["first"]},
        "p50_ms": {name: statistics.median(each[name] for each in samples) for name in (*STAGES, "total")},
        "inference_p90_ms": float(np.percentile([each["inference"] for each in samples], 90)),
        "answer": found["answer"],
        "samples_ms": samples,
    }


def natively(models: Sequence[Path], picture: Path, repeats: int) -> dict[str, dict[str, Any]]:
    """The same files in onnxruntime on one thread: median of the network, and the answer."""
    found: dict[str, dict[str, Any]] = {}
    classifiers = {str(model): Classifier(model, 1, provider="cpu") for model in models}
    image = decode(picture)  # in full, as a browser does
    fitted = {name: each.card.preprocess.fit(image) for name, each in classifiers.items()}
    batches = {name: each.card.preprocess.normalize([fitted[name]]) for name, each in classifiers.items()}
    runs = {name: functools.partial(each.logits, batches[name]) for name, each in classifiers.items()}
    times = measure(runs, repeats)
    for name, classifier in classifiers.items():
        (answer,) = classifier.predict_fitted([fitted[name]], top=len(classifier.card.labels))
        pairs = dict(zip(answer.labels, answer.probabilities, strict=True))
        found[name] = {"p50_ms": times[name].p50_ms, "answer": pairs}
    return found


def apart(each: dict[str, Any]) -> float | None:
    """Greatest difference between the browser's and onnxruntime's probability of a label; None without a label in common."""
    own = each["native"]["answer"]
    differences = [abs(own[one["label"]] - one["probability"]) for one in each["answer"] if one["label"] in own]
    return max(differences, default=None)


def markdown(data: dict[str, Any]) -> str:
    """The result for people."""
    head = (
        "file",
        "threads",
        "MB",
        "session ms",
        "first run ms",
        "decode",
        "preprocess",
        "inference",
        "p90",
        "in all",
        "onnxruntime",
        "apart",
    )
    rows = []
    for each in data["rows"]:
        p50, difference = each["p50_ms"], apart(each)
        rows.append(
            (
                f"{each['model']} {each['precision']}, {each['size']} px",
                each["threads"],
                f"{each['bytes'] / 1e6:.1f}",
                f"{each['start_ms']['session']:.0f}",
                f"{each['start_ms']['first']:.0f}",
                *(f"{p50[name]:.1f}" for name in STAGES),
                f"{each['inference_p90_ms']:.1f}",
                f"{p50['total']:.1f}",
                f"{each['native']['p50_ms']:.2f}",
                "-" if difference is None else f"{difference:.4f}",
            )
        )
    known = data["conditions"]
    runtime = data["rows"][0]["runtime_bytes"] / 1e6
    return (
        f"# In the browser\n\n{markdown_table(head, rows)}\n"
        f"Milliseconds, medians of {known['repeats']} pictures ({data['picture']}) in turns; p90 is that of the inference. "
        f"`onnxruntime`: the network alone, natively on one thread. `apart`: the greatest difference between the two in the "
        f"probability of one of the five best labels. onnxruntime-web {known['onnxruntime_web']} "
        f"({runtime:.1f} MB of WebAssembly) in {known['browser']}; load average {known['load_average']} "
        f"at the beginning.\n\n{conditions_line(known)}\n"
    )


if __name__ == "__main__":
    try:
        print(main())
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
