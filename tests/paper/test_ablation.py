"""The 2 x 2 of teacher input and loss."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import r2_score

from kdedge.errors import RunError
from kdedge.paper.ablation import ablate, conclusion, r2_plain, wrong_input
from kdedge.paper.material import gather
from kdedge.paper.plan import SCALES
from kdedge.preprocess import Preprocess
from kdedge.progress import no_bars
from kdedge.training.teachers import TeacherInput, build_teacher
from tests.paper.conftest import silent

BGR = TeacherInput(32, (91.5, 103.9, 131.1), (1.0, 1.0, 1.0), "bgr")
TINY = SCALES["smoke"].with_(sizes=())


def test_plain_r2_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(40, 6))
    predicted = target + rng.normal(size=(40, 6)) * [0.1, 0.5, 1, 2, 4, 8]
    assert r2_plain(target, predicted) == pytest.approx(r2_score(target, predicted, multioutput="uniform_average"))
    dead = np.c_[target, np.full(40, 3.0)]
    assert r2_plain(dead, np.c_[predicted, np.zeros(40)]) == pytest.approx(r2_plain(target, predicted))
    assert r2_plain(np.ones((4, 2)), np.zeros((4, 2))) == 0.0


def test_wrong_input_is_rgb_over_255() -> None:
    wrong = wrong_input(BGR.override(Preprocess(32)))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert np.allclose(wrong.normalize(pixels), pixels.transpose(0, 3, 1, 2) / 255, atol=1e-6)
    with pytest.raises(RunError, match="RGB/255 already"):
        wrong_input(wrong)


@pytest.mark.parametrize(
    ("r2", "words"),
    [
        ((0.5, 0.4, -3.0, -1.0), "neither with the wrong one"),
        ((0.5, 0.4, 0.3, 0.2), "both learn"),
        ((-0.5, 0.4, -0.3, 0.2), "only binary cross entropy"),
        ((-0.5, -0.4, -0.3, -0.2), "nothing learns"),
        ((0.5, 0.4, 0.3, -0.2), "only right input mse and right input bce and wrong input mse learn;"),
    ],
)
def test_conclusion_follows_from_the_numbers(r2: tuple[float, ...], words: str) -> None:
    names = ("right-mse", "right-bce", "wrong-mse", "wrong-bce")
    text = conclusion({n: {"r2": {"mean": v}} for n, v in zip(names, r2, strict=True)})
    assert words in text
    by_input = ((r2[0] - r2[2]) + (r2[1] - r2[3])) / 2
    assert f"right input changes R2 by {by_input:+.3f}" in text


def test_ablation_end_to_end(tmp_path: Path, spots: Callable[..., Path]) -> None:
    data = gather(TINY, no_bars, silent, data=spots(), k=6)
    out = tmp_path / "out"

    def run(**options: bool) -> dict[str, object]:
        teacher = build_teacher("timm/test_resnet", "random", BGR)
        chosen = {"raw": True, "resume": False, "recompute": False, **options}
        found = ablate(teacher, data, TINY, "timm/test_efficientnet", (0, 1), out, bars=no_bars, say=silent, **chosen)
        assert teacher.preprocess.color == "bgr"  # given back as it came
        return found

    import torch

    torch.manual_seed(0)
    result = run()
    rows = {row["method"]: row for row in result["rows"]}
    assert list(rows) == ["right-mse", "right-bce", "wrong-mse", "wrong-bce", "right-raw-mse", "wrong-raw-mse"]
    assert all(
        row["scores"][name]["n"] == 2 for row in rows.values() for name in ("r2", "r2_plain", "cosine", "accuracy")
    )
    assert rows["right-mse"]["scores"]["r2"] != rows["wrong-mse"]["scores"]["r2"]
    kept = json.loads((out / "ablation.json").read_text())
    assert kept["verdict"] == result["verdict"]
    text = (out / "ablation.md").read_text()
    assert result["verdict"] in text
    mean, std = (rows["right-bce"]["scores"]["accuracy"][key] for key in ("mean", "std"))
    assert f"{mean:.3f} ± {std:.3f}" in text
    torch.manual_seed(0)  # the same random teacher again
    assert run(resume=True)["rows"] == result["rows"]
