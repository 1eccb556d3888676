"""The export of the demonstration: guarded, and shown even if it misses."""

import numpy as np
from numpy.typing import NDArray

from kdedge.export.guard import Limits
from kdedge.export.pictures import Pictures
from kdedge.export.recipe import ExportOptions
from kdedge.export.rejection import Known
from kdedge.export.result import ExportResult
from kdedge.export.sources import export_student
from kdedge.progress import Bars
from kdedge.quickstart.material import CROP, Say
from kdedge.training.distill import Distilled
from kdedge.training.run import Run

__all__ = ["export_demo"]

LICENCE = (
    "Apache-2.0; trained on synthetic people (openpeople, MIT) with activations of SFace (Apache-2.0) "
    "and faces of a generator trained on DigiFace-1M (research use)"
)
NOTES = (
    "Recognises ten synthetic people in aligned 112 px face crops ('kdedge data faces' makes them). "
    "A demonstration: it knows nobody else; 'kdedge gallery calibrate' sets a threshold with pictures of others."
)


EXPECTS = f"aligned face crops of {CROP} px"


def export_demo(done: Distilled, run: Run, seed: int, bars: Bars, say: Say) -> ExportResult:
    """Both files; an int8 file that misses its limits is shown all the same, with a word about it."""

    train = done.material.train
    known = Known(Pictures(train.images, done.card.preprocess), train.labels) if train else None

    def export(limits: Limits) -> ExportResult:
        return export_student(
            done.student,
            done.card.with_(licence=LICENCE, notes=NOTES, expects=EXPECTS),
            run.path,
            calibration=_calibration(done, seed),
            heldout=done.material.heldout_images(),
            labels=done.material.heldout_labels(),
            known=known,
            options=ExportOptions(limits=limits, overwrite=True),
            checkpoint=run.best,
            bars=bars,
        )

    exported = export(Limits(seconds=60.0))
    if exported.missed:
        say(
            f"warning: no int8 file within the limits was found ({exported.missed}). 'kdedge export' would write fp32 alone, "
            "this demonstration writes one without limits; 'kdedge info' says what it loses."
        )
        exported = export(Limits(max_drop=100.0, min_speedup=0.0, min_agreement=0.0, min_cosine=-1.0))
    return exported


def _calibration(done: Distilled, seed: int) -> NDArray[np.uint8]:
    """200 views that were trained on, mostly of people: uint8, (200, S, S, 3)."""
    size = min(200, len(done.rows))
    chosen = np.sort(np.random.default_rng(seed).choice(done.rows, size, replace=False))
    return np.asarray(done.bank.views[chosen])
