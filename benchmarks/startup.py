"""``kdedge classify IMAGE`` as a whole process, beside a bare script that does the same with onnxruntime alone.

Both take turns, and the order is turned round every time. Wall time, CPU time and peak memory are those of the process
(os.wait4). This script loads neither NumPy nor onnxruntime: on Linux a child's peak begins with that of its parent.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, all_conditions, conditions_line, markdown_table, slug, write_results
from kdedge.errors import KdedgeError
from kdedge.runtime.models import default_model
from kdedge.runtime.session import default_threads

PHOTOGRAPH = """
import sys, cv2, numpy
width, height = map(int, sys.argv[2:])
rows, columns = numpy.mgrid[0:480, 0:640]
noise = numpy.random.default_rng(0).integers(0, 40, (480, 640, 3))
image = noise + numpy.stack([rows // 3, columns // 4, (rows + columns) // 6], 2)
image = cv2.resize(image.astype(numpy.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
cv2.imwrite(sys.argv[1], image.astype(numpy.uint8))
"""

BARE = """
import sys, cv2, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
session = onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
image = cv2.cvtColor(cv2.imread(sys.argv[1]), cv2.COLOR_BGR2RGB)
image = cv2.resize(image, (given.shape[3], given.shape[2]), interpolation=cv2.INTER_AREA)
batch = ((image.astype(numpy.float32) - 127) / 128).transpose(2, 0, 1)[None]
logits = session.run(None, {given.name: numpy.ascontiguousarray(batch)})[0][0]
print(int(logits.argmax()))
"""


@dataclass(frozen=True)
class Sample:
    """One process: seconds on the clock, seconds of CPU, peak resident memory (10^6 bytes)."""

    wall: float
    cpu: float
    peak_mb: float


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "model", nargs="?", help="an .onnx file, a run directory or a name of the zoo; as kdedge classify"
    )
    options.add_argument("--image", type=Path, help="what to classify; by default a JPEG of 640x480 made for it")
    options.add_argument("--repeats", type=int, default=25, help="processes of each kind, at least 15")
    options.add_argument("--threads", type=int, default=default_threads(), help="of onnxruntime, in both")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write JSON and Markdown, return the path of the latter."""
    given = parser().parse_args(arguments)
    if given.repeats < 15:
        parser().error("--repeats must be at least 15: a median of fewer says little.")
    model = str(default_model(given.model)[0].resolve())
    with tempfile.TemporaryDirectory() as folder:
        image = str(given.image.resolve()) if given.image else str(Path(folder) / "photograph.jpg")
        large = str(Path(folder) / "large.jpg")
        if not given.image:
            subprocess.run([sys.executable, "-c", PHOTOGRAPH, image, "640", "480"], check=True)
        subprocess.run([sys.executable, "-c", PHOTOGRAPH, large, "4000", "3000"], check=True)
        threads = str(given.threads)
        commands = {
            "bare script": [sys.executable, "-c", BARE, image, model, threads],
            "kdedge classify": [*kdedge(), "classify", image, "--model", model, "--threads", threads],
            "bare script, 12 megapixels": [sys.executable, "-c", BARE, large, model, threads],
            "kdedge classify, 12 megapixels": [*kdedge(), "classify", large, "--model", model, "--threads", threads],
            "kdedge --help": [*kdedge(), "--help"],
        }
        samples = take_turns(commands, given.repeats, environment(folder))
    known = {**all_conditions(), "threads": given.threads, "repeats": given.repeats}
    rows = {name: medians(found) for name, found in samples.items()}
    data = {
        "rows": rows,
        "classify_over_bare": {
            key: rows["kdedge classify"][key] / rows["bare script"][key] for key in ("wall_s", "cpu_s", "peak_mb")
        },
        "classify_over_bare_12_megapixels": {
            key: rows["kdedge classify, 12 megapixels"][key] / rows["bare script, 12 megapixels"][key]
            for key in ("wall_s", "cpu_s", "peak_mb")
        },
        "model": {"name": Path(model).name, "bytes": Path(model).stat().st_size},
        "samples_wall_s": {name: [sample.wall for sample in found] for name, found in samples.items()},
        "conditions": known,
    }
    return write_results(given.results, f"startup-{slug(known)}", data, markdown(data))


def kdedge() -> list[str]:
    """The installed command, as people call it."""
    script = Path(sys.executable).with_name("kdedge")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "kdedge"]


def environment(folder: str | Path) -> dict[str, str]:
    """That of a fresh machine: code compiled, as installers leave it, and no classes enrolled; both lie in ``folder``."""
    known = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONDONTWRITEBYTECODE", "KDEDGE_GALLERY")
    }
    return {**known, "PYTHONPYCACHEPREFIX": str(Path(folder) / "compiled"), "XDG_DATA_HOME": str(Path(folder) / "data")}


def run(command: list[str], env: dict[str, str] | None = None) -> Sample:
    """Run a command to its end and read what it used."""
    begun = time.perf_counter()
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent, env=env)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"error: {' '.join(command[:3])} ... ended with exit code {process.returncode}.")
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Sample(wall, used.ru_utime + used.ru_stime, peak / 1e6)


def take_turns(
    commands: dict[str, list[str]], repeats: int, env: dict[str, str] | None = None
) -> dict[str, list[Sample]]:
    """Samples of each command, after one untimed run of each that fills the caches."""
    for command in commands.values():
        run(command, env)
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    for turn in range(repeats):
        for name in list(commands)[:: 1 if turn % 2 else -1]:
            samples[name].append(run(commands[name], env))
    return samples


def medians(samples: list[Sample]) -> dict[str, float]:
    """Median wall and CPU seconds, median and highest peak."""
    return {
        "wall_s": statistics.median(sample.wall for sample in samples),
        "cpu_s": statistics.median(sample.cpu for sample in samples),
        "peak_mb": statistics.median(sample.peak_mb for sample in samples),
        "highest_peak_mb": max(sample.peak_mb for sample in samples),
    }


def markdown(data: dict[str, Any]) -> str:
    """The result for people."""
    head = ("process", "wall s", "CPU s", "peak MB")
    rows = [
        (name, f"{row['wall_s']:.3f}", f"{row['cpu_s']:.3f}", f"{row['peak_mb']:.0f}")
        for name, row in data["rows"].items()
    ]
    known = data["conditions"]
    large = data.get("classify_over_bare_12_megapixels")
    more = f", of a JPEG of 12 megapixels {large['wall_s']:.2f} times" if large else ""
    return (
        f"# Start-up\n\n{markdown_table(head, rows)}\n"
        f"Whole processes, medians of {known['repeats']}, in turns. `kdedge classify` takes "
        f"{data['classify_over_bare']['wall_s']:.2f} times as long as the bare script{more}.\n\n{conditions_line(known)}\n"
    )


if __name__ == "__main__":
    try:
        print(main())
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
