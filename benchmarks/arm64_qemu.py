"""Whether an int8 file says the same on an ARM64 processor as here, and which of its layers run in int8 there.

The processor is emulated by qemu, so speed means nothing; numbers and the graph are what the device would have. Needs Debian
12 on x86 and its package registries; everything is unpacked into kdedge's cache, nothing of the machine is changed.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, all_conditions, conditions_line, markdown_table, slug, write_results
from benchmarks.int8 import arm64_guest
from benchmarks.int8.arithmetic import as_on_arm, layers, optimised_layers
from benchmarks.int8.arm64 import CPUS, Guest, prepare
from kdedge.data.folder import find_images
from kdedge.errors import DataError, KdedgeError
from kdedge.export.fusion import fusion_report
from kdedge.export.targets import target_for
from kdedge.export.verify import parity
from kdedge.preprocess import decode
from kdedge.runtime.classifier import Classifier


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path, help="int8 file with a card, made for arm64")
    options.add_argument("images", type=Path, help="folder of images")
    options.add_argument("--fp32", type=Path, help="the file it was made of")
    options.add_argument("--count", type=int, default=100, help="images, evenly spaced over the folder")
    options.add_argument("--cpus", nargs="+", choices=list(CPUS), default=list(CPUS)[:2], help="to emulate")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Run here and there, write JSON and Markdown, return the path of the latter."""
    given = parser().parse_args(arguments)
    here = Classifier(given.model)
    batch = prepared(here, given.images, given.count)
    references = {"the same file here": here.logits(batch)}
    if given.fp32:
        references["fp32 here"] = Classifier(given.fp32).logits(batch)
    guest = prepare(version("onnxruntime"), version("numpy"))
    runs = [emulated(guest, cpu, given.model, batch, references) for cpu in given.cpus]
    known = all_conditions()
    data = {
        "model": given.model.name,
        "network": here.card.student,
        "target": here.card.target,
        "size": here.card.preprocess.size,
        "images": len(batch),
        "runs": runs,
        "fusion_report": fusion_report(given.model, target_for("arm64")).to_dict(),
        "host_layers": {
            "as shipped": optimised_layers(given.model),
            "as on ARM": optimised_layers(given.model, as_on_arm()),
        },
        "conditions": known,
    }
    name = here.card.student.replace("/", "-") or given.model.stem
    return write_results(given.results, f"arm64-{name}-{slug(known)}", data, markdown(data))


def prepared(classifier: Classifier, folder: Path, count: int) -> NDArray[np.float32]:
    """At most ``count`` images as the network wants them, float32 (N, 3, S, S)."""
    paths = find_images(folder)
    if count < 1 or not paths:
        raise DataError(f"{folder}: {len(paths)} images, of which {count} were asked for; at least one is needed.")
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths)), dtype=int))]
    pre = classifier.card.preprocess
    return pre.normalize(np.stack([pre.fit(decode(path)) for path in chosen]))


def emulated(
    guest: Guest, cpu: str, model: Path, batch: NDArray[np.float32], references: dict[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """What one processor made of the file: its layers, and its logits beside each reference."""
    print(f"{cpu}: {len(batch)} images", file=sys.stderr, flush=True)
    with TemporaryDirectory(prefix="kdedge-") as folder:
        images, logits, dump = (Path(folder) / name for name in ("images.npy", "logits.npy", "optimised.onnx"))
        np.save(images, batch)
        said = guest.run(Path(arm64_guest.__file__), model.resolve(), images, logits, dump, cpu=cpu)
        found = np.load(logits)
        compared = {name: parity(reference, found).to_dict() for name, reference in references.items()}
        return {"cpu": cpu, **json.loads(said), "layers": layers(dump), "against": compared}


def markdown(data: dict[str, Any]) -> str:
    """The result for people."""
    head = (
        "processor",
        "beside",
        "largest difference of a logit",
        "of the largest logit",
        "cosine",
        "same first class",
    )
    rows = [
        (
            run["cpu"],
            name,
            f"{found['max_abs_error']:.4f}",
            f"{found['relative_error']:.1%}",
            f"{found['cosine']:.5f}",
            f"{found['top1_agreement']:.1%}",
        )
        for run in data["runs"]
        for name, found in run["against"].items()
    ]
    counts = {f"{run['cpu']}, emulated": run["layers"] for run in data["runs"]}
    counts |= {f"x86, {name}": found for name, found in data["host_layers"].items()}
    cells = [
        (name, _share(found, "conv"), _share(found, "linear"), found["quantize"], found["dequantize"])
        for name, found in counts.items()
    ]
    there, told = data["runs"][0], data["fusion_report"]
    same = all(foretold(told, run["layers"]) for run in data["runs"])
    settings = ", ".join(f"{name}={value}" for name, value in as_on_arm().items())
    return (
        f"# ARM64\n\n{data['model']} ({data['network']}, {data['size']} px, target {data['target'] or 'unknown'}) on "
        f"{data['images']} images, on processors that qemu emulates: numbers and graphs are the device's, speed is not.\n\n"
        f"{markdown_table(head, rows)}\n## Layers in int8, in the graph onnxruntime made\n\n"
        f"{markdown_table(('where', 'convolutions', 'products', 'Q nodes', 'DQ nodes'), cells)}\n"
        f"The export's own report for arm64, made on x86: {told['conv_int8']} of {told['conv_total']} convolutions and "
        f"{told['linear_int8']} of {told['linear_total']} products in int8, "
        f"{'the same as on the emulated processors' if same else '**not** what ran on the emulated processors'}.\n\n"
        f"'as on ARM' is a session on x86 with {settings}. There: onnxruntime {there['onnxruntime']}, numpy "
        f"{there['numpy']}, Python {there['python']}. Here: {conditions_line(data['conditions'])}\n"
    )


def foretold(report: dict[str, Any], found: dict[str, int]) -> bool:
    """Whether a fusion report counts what ran."""
    return all(
        (report[f"{kind}_int8"], report[f"{kind}_total"])
        == (found[f"{kind}_int8"], found[f"{kind}_int8"] + found[f"{kind}_float"])
        for kind in ("conv", "linear")
    )


def _share(found: dict[str, int], kind: str) -> str:
    return f"{found[f'{kind}_int8']} of {found[f'{kind}_int8'] + found[f'{kind}_float']}"


if __name__ == "__main__":
    try:
        print(main())
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
