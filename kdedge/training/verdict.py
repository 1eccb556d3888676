"""Did the student learn? In words, from held-out scores."""

from collections.abc import Mapping

__all__ = ["verdict"]


def verdict(scores: Mapping[str, float]) -> str:
    """One sentence from held-out ``r2`` (variance-weighted), ``cosine`` and ``knn``.

    Below R2 = 0 a student predicts worse than the teacher's mean activation; such a student has not learned, whatever
    its cosine says.
    """
    r2, cosine, knn = scores["r2"], scores["cosine"], scores["knn"]
    figures = f"held-out R2 {r2:.2f}, cosine {cosine:.2f}, k-NN agreement {knn:.2f}"
    if not r2 > 0.0:  # NaN included
        cause = (
            "directions are right but outputs explode: BatchNorm statistics or a learning rate that is too high"
            if cosine > 0.3
            else "nothing of the teacher was picked up: too short a training, or images the teacher does not know"
        )
        return f"The student is NOT learning ({figures}); {cause}."
    if r2 < 0.1:
        return f"The student has barely learned ({figures}); train longer or add transfer images."
    if r2 < 0.4:
        return f"The student has learned part of its teacher ({figures})."
    return f"The student has learned well ({figures})."
