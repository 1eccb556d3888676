"""A model beside ResNet-50 on the GPU of a Jetson, fp32, fp16 and int8: latency, energy, and the time to build the engines.

Fix the clocks first (sudo nvpmodel -m 0; sudo jetson_clocks) and let the board reach its temperature. Power mode, versions and
temperatures are in the results. Without torch on the board, make ResNet-50 on another machine with --make-teacher and give its
files with --teacher-fp32, --teacher-fp16 and --teacher-int8.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.bench_laptop import options_of, plan_of, told, write
from kdedge.cli.bench_networks import TEACHER, networks
from kdedge.errors import KdedgeError, ModelError
from kdedge.files import write_bytes
from kdedge.runtime.bench.models import choose_files
from kdedge.runtime.providers import EXECUTION, describe
from kdedge.runtime.sensors import jetson, power_mode


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = options_of(__doc__ or "", "jetson")
    options.add_argument("--provider", choices=("tensorrt", "cuda"), default="tensorrt", help="what all run on")
    options.add_argument("--no-engine-build", action="store_true", help="do not build the engines once more to time it")
    options.add_argument("--make-teacher", type=Path, metavar="FOLDER", help="write ResNet-50's files there and end")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write JSON and Markdown, return the path of the latter; or of the teacher's folder."""
    given = parser().parse_args(arguments)
    if given.make_teacher:
        return make_teacher(given.model, given.make_teacher)
    refuse(given.provider)
    board = jetson()
    mode = power_mode()
    told(
        f"{board['model']}, L4T {board['l4t']}, power mode {mode or 'unknown'}" if board else "note: this is no Jetson"
    )
    plan = plan_of(given, given.provider)
    # The threads of a processor do not bear on what runs on a GPU: one row for each number of images.
    sweep_threads = plan.sweep_threads[-1:]
    return write(given, replace(plan, sweep_threads=sweep_threads, engine_build=not given.no_engine_build))


def make_teacher(model: str | None, folder: Path) -> Path:
    """Write the teacher for TensorRT, as large as ``model`` and with as many outputs, into ``folder``."""
    card = choose_files(model, "cpu").card
    folder.mkdir(parents=True, exist_ok=True)
    for candidate in networks(TEACHER, card.preprocess.size, len(card.labels), "teacher", "tensorrt"):
        name = f"{TEACHER.rpartition('/')[2]}.{candidate.precision}.onnx"
        write_bytes(folder / name, candidate.path.read_bytes())
    return folder


def refuse(provider: str) -> None:
    """ModelError where this onnxruntime lacks the provider: nothing else may take its place here."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if EXECUTION[provider] not in available:
        raise ModelError(
            f"this onnxruntime has no {provider} (it has {describe(available)}); run this on a Jetson or another machine with "
            "an NVIDIA GPU and its build of onnxruntime, or 'python -m benchmarks.bench_laptop' for the processor."
        )


if __name__ == "__main__":
    try:
        print(main())
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
