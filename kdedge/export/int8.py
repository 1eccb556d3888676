"""The int8 step of an export: calibrate, choose, guard, and look at what runs in integers."""

from dataclasses import dataclass
from pathlib import Path

from kdedge.export.choose import Choice, choose_calibration
from kdedge.export.fusion import FusionReport, fusion_report
from kdedge.export.guard import Guarded, Limits, guard
from kdedge.export.judge import Judge
from kdedge.export.pictures import Pictures
from kdedge.export.quantize import Method, Quantizer
from kdedge.export.speed import Speed, speedup
from kdedge.export.targets import Target
from kdedge.progress import Bars, no_bars

__all__ = ["Int8", "make_int8"]

_ERROR_IMAGES = 48


@dataclass(frozen=True)
class Int8:
    """An int8 file, or why there is none.

    Attributes:
        fusion: of the file; of the last attempt if none held.
    """

    quantizer: Quantizer
    choice: Choice
    guarded: Guarded
    fusion: FusionReport
    limits: Limits


def make_int8(
    fp32: Path,
    folder: Path,
    calibration: Pictures,
    judge: Judge,
    method: Method,
    target: Target,
    limits: Limits,
    bars: Bars = no_bars,
) -> Int8:
    """Quantise the network of the file ``fp32`` for ``target``; ``folder`` takes all files this makes.

    Speed is measured only where the target's kernels are this machine's.
    """
    preprocess = judge.preprocess
    with bars("Calibrating") as progress:
        quantizer = Quantizer.prepare(fp32, folder, calibration, preprocess, target, progress)
    with bars("Choosing the calibration") as progress:
        choice = choose_calibration(
            quantizer, method, judge.images, judge.reference, preprocess, folder, progress, least=limits.min_agreement
        )

    def timing(path: Path) -> Speed | None:
        return speedup(fp32, path, limits.min_speedup) if target.runs_here else None

    with bars("Holding the int8 file to its limits") as progress:
        some = calibration.some(_ERROR_IMAGES)
        guarded = guard(quantizer, choice.method, judge, timing, limits, some, folder, progress)
    taken = guarded.taken
    fusion = fusion_report(guarded.path or guarded.last, target, taken.left_float)
    return Int8(quantizer, choice, guarded, fusion, limits)
