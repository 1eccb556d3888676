"""A folder of large JPEGs: ``kdedge classify`` beside the loop that everybody writes first.

The plain script reads each file with ``cv2.imread``, shrinks it with ``cv2.resize`` and runs the network, one after the
other, with as many threads of onnxruntime. Both are whole processes and take turns. What one image takes is the difference
between the time of all files and that of one file, so neither's start counts; the whole time is given, too. How many bytes
a pixel has decides how much can be saved: all of a JPEG's bytes must be unpacked at any scale. So several kinds are measured.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, all_conditions, conditions_line, markdown_table, slug, write_results
from benchmarks.startup import environment, kdedge, run
from kdedge.errors import KdedgeError
from kdedge.runtime.models import default_model
from kdedge.runtime.session import default_threads

MAKE = """
import sys, cv2, numpy
folder, files, width, height, grain, quality = sys.argv[1], *map(int, sys.argv[2:])
random = numpy.random.default_rng(0)
image = numpy.zeros((height, width, 3), numpy.float32)
for octave in range(9):  # as in nature, every octave holds about as much contrast as the next
    cells = random.standard_normal((3 * 2**octave, 4 * 2**octave, 3)).astype(numpy.float32)
    image += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) * 0.62**octave
image = (image - image.mean()) / image.std() * 50 + 120
image = 0.7 * image.mean(2, keepdims=True) + 0.3 * image
image += random.standard_normal(image.shape).astype(numpy.float32) * grain
image = numpy.clip(image, 0, 255).astype(numpy.uint8)
for number in range(files):
    shown = numpy.ascontiguousarray(numpy.roll(image, 40 * number, axis=1))
    cv2.imwrite(f"{folder}/{number:04d}.jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, quality])
"""

PLAIN = """
import sys, pathlib, cv2, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
session = onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jpg")):
    image = cv2.cvtColor(cv2.resize(cv2.imread(str(path)), (given.shape[3], given.shape[2])), cv2.COLOR_BGR2RGB)
    batch = ((image.astype(numpy.float32) - 127) / 128).transpose(2, 0, 1)[None]
    print(path, int(session.run(None, {given.name: numpy.ascontiguousarray(batch)})[0].argmax()))
"""


@dataclass(frozen=True)
class Kind:
    """Photographs of a kind: how much the sensor's grain deviates (of 255), and the JPEG's quality."""

    name: str
    grain: int
    quality: int


KINDS = (
    Kind("smooth, quality 80", 4, 80),
    Kind("clean, quality 90", 2, 90),
    Kind("photograph, quality 90", 4, 90),
    Kind("grainy, quality 90", 8, 90),
    Kind("grainy, quality 95", 8, 95),
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", nargs="?", help="an .onnx file, a run directory or a name of the zoo")
    options.add_argument("--files", type=int, default=200)
    options.add_argument("--size", type=int, nargs=2, default=(4000, 3000), metavar=("WIDTH", "HEIGHT"))
    options.add_argument("--repeats", type=int, default=3, help="turns of each kind")
    options.add_argument("--kinds", type=int, nargs="+", default=list(range(len(KINDS))), help="which, from 0")
    options.add_argument("--threads", type=int, help="of onnxruntime in both; by default what each takes by itself")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write JSON and Markdown, return the path of the latter."""
    given = parser().parse_args(arguments)
    if given.files < 2 or given.repeats < 1:
        parser().error("--files must be at least 2 and --repeats at least 1.")
    model = default_model(given.model)[0].resolve()
    rows = [measure(KINDS[place], model, given) for place in given.kinds]
    known = {**all_conditions(), "threads": given.threads or default_threads(), "repeats": given.repeats}
    data = {
        "rows": rows,
        "files": given.files,
        "width": given.size[0],
        "height": given.size[1],
        "model": {"name": model.name, "bytes": model.stat().st_size},
        "conditions": known,
    }
    return write_results(given.results, f"classify-folder-{slug(known)}", data, markdown(data))


def measure(kind: Kind, model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Both ways through a folder of one kind."""
    with tempfile.TemporaryDirectory() as name:
        many, one = Path(name) / "many", Path(name) / "one"
        for folder, files in ((many, given.files), (one, 1)):
            folder.mkdir()
            numbers = [files, *given.size, kind.grain, kind.quality]
            subprocess.run([sys.executable, "-c", MAKE, str(folder), *map(str, numbers)], check=True)
        size = statistics.mean(path.stat().st_size for path in many.iterdir())
        fresh = environment(name)
        threads = given.threads or default_threads()
        own = ["--threads", str(given.threads)] if given.threads else []
        commands = {
            "plain": lambda folder: [sys.executable, "-c", PLAIN, str(folder), str(model), str(threads)],
            "kdedge": lambda folder: [*kdedge(), "classify", str(folder), "--model", str(model), "--no-progress", *own],
        }
        whole: dict[str, list[float]] = {way: [] for way in commands}
        each: dict[str, list[float]] = {way: [] for way in commands}
        cpu: dict[str, list[float]] = {way: [] for way in commands}
        peak: dict[str, float] = dict.fromkeys(commands, 0.0)
        for turn in range(given.repeats + 1):
            for way in list(commands)[:: 1 if turn % 2 else -1]:
                single, all_of_them = (run(commands[way](folder), fresh) for folder in (one, many))
                if turn:  # the first fills the caches
                    whole[way].append(all_of_them.wall)
                    each[way].append((all_of_them.wall - single.wall) / (given.files - 1))
                    cpu[way].append((all_of_them.cpu - single.cpu) / (given.files - 1))
                    peak[way] = max(peak[way], all_of_them.peak_mb)
    median = {way: statistics.median(found) for way, found in each.items()}
    total = {way: statistics.median(found) for way, found in whole.items()}
    row = {
        "kind": kind.name,
        "megabytes": size / 1e6,
        "plain_images_a_second": 1 / median["plain"],
        "kdedge_images_a_second": 1 / median["kdedge"],
        "times": median["plain"] / median["kdedge"],
        "times_with_start": total["plain"] / total["kdedge"],
        "cpu_ms_an_image": {way: 1000 * statistics.median(found) for way, found in cpu.items()},
        "peak_mb": peak,
        "wall_s": whole,
    }
    print(f"{kind.name}: {size / 1e6:.2f} MB a file, {row['times']:.2f} times", file=sys.stderr, flush=True)
    return row


def markdown(data: dict[str, Any]) -> str:
    """The result for people."""
    head = ("files", "MB a file", "plain images/s", "kdedge images/s", "times", "with start", "kdedge peak MB")
    rows = [
        (
            row["kind"],
            f"{row['megabytes']:.2f}",
            f"{row['plain_images_a_second']:.1f}",
            f"{row['kdedge_images_a_second']:.1f}",
            f"{row['times']:.2f}",
            f"{row['times_with_start']:.2f}",
            f"{row['peak_mb']['kdedge']:.0f}",
        )
        for row in data["rows"]
    ]
    known = data["conditions"]
    return (
        f"# A folder of large JPEGs\n\n{markdown_table(head, rows)}\n"
        f"{data['files']} files of {data['width']}x{data['height']} pixels in each folder, medians of {known['repeats']} "
        f"turns; `{data['model']['name']}`.\n\n{conditions_line(known)}\n"
    )


if __name__ == "__main__":
    try:
        print(main())
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
