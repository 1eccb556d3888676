"""The paper's forms of a distillation: connector kept (S10), head unfrozen (S11), its optimiser and epoch (S12, S13)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdedge.errors import RunError
from kdedge.training.config import DistillConfig
from kdedge.training.connector import WithConnector
from kdedge.training.distill import Distilled, distill
from kdedge.training.run import load_run
from kdedge.training.teachers import build_teacher
from tests.paper.conftest import silent, spots  # noqa: F401

STUDENT = "timm/test_efficientnet"


@pytest.fixture
def run(tmp_path: Path, spots: Callable[..., Path]) -> Callable[..., Distilled]:  # noqa: F811
    """Distil a random teacher into a tiny student with the options given."""
    spots(12, "train")
    data = spots(4, "test", seed=1)

    def with_options(**options: object) -> Distilled:
        chosen: dict[str, object] = {
            "teacher": "timm/test_resnet",
            "teacher_weights": "random",
            "student": STUDENT,
            "student_weights": "random",
            "out": str(tmp_path / "run"),
            "transfer": str(data / "train"),
            "data": str(data / "train"),
            "test": str(data / "test"),
            "size": 32,
            "steps": 6,
            "batch": 8,
            "train_views": 2,
            "evaluations": 1,
            "precision": "fp32",
        }
        torch.manual_seed(0)  # the random teacher is the same one each time
        return distill(DistillConfig(**{**chosen, **options}), say=silent)  # type: ignore[arg-type]

    return with_options


def test_connector_stays_in_the_student_and_is_loaded_again(run: Callable[..., Distilled]) -> None:
    done = run(loss="bce", connector=True)
    trunk = done.student.trunk
    assert isinstance(trunk, WithConnector)
    dim = build_teacher("timm/test_resnet", "random").dim
    assert (trunk.connector.out_features, done.student.head.in_features) == (dim, dim)
    loaded = load_run(done.run.path)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        embedding = loaded.student.trunk(pixels)
        assert torch.allclose(loaded.student(pixels), done.student(pixels), atol=1e-5)  # memory formats differ
    assert 0 <= float(embedding.min()) <= float(embedding.max()) <= 1  # concept probabilities


def test_unfrozen_trains_the_trunk_too_and_tells_both_scores(run: Callable[..., Distilled], tmp_path: Path) -> None:
    frozen = run()
    tuned = run(out=str(tmp_path / "tuned"), head="unfrozen", head_epochs=3)
    before, after = frozen.student.trunk.state_dict(), tuned.student.trunk.state_dict()
    weights = [name for name in before if name.endswith(("conv.weight", "conv_stem.weight"))]
    assert weights
    assert all(not torch.equal(before[name], after[name]) for name in weights)
    for part in ("val", "test"):
        assert tuned.scores[f"frozen_{part}_accuracy"] == pytest.approx(frozen.scores[f"{part}_accuracy"])
        assert f"frozen_{part}_accuracy" not in frozen.scores
    assert tuned.card.provenance["head"] == "unfrozen"
    assert tuned.scores["test_r2"] == pytest.approx(frozen.scores["test_r2"])  # of the imitation, before fine-tuning


def test_an_epoch_draws_so_many_views(run: Callable[..., Distilled]) -> None:
    done = run(epoch_images=16, steps=None, epochs=3.0)
    assert len(done.rows) > 16
    assert done.loop.steps == 3 * 16 // 8
    assert done.run.history()[-1]["epoch"] == pytest.approx(3.0)


def test_the_papers_rate_is_the_one_that_was_used(run: Callable[..., Distilled]) -> None:
    done = run(optimizer="adam", schedule="inverse-sqrt", epoch_images=16, steps=None, epochs=4.0, lr=1e-3)
    rates = {int(r["step"]): r["lr"] for r in done.run.history() if "lr" in r}
    assert rates
    for step, rate in rates.items():
        assert rate == pytest.approx(1e-3 / np.sqrt(1 + (step - 1) // 2), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"connector": True}, "--connector keeps the layer"),
        ({"head": "melted"}, "choose frozen or unfrozen"),
        ({"head": "unfrozen", "data": None, "test": None}, "fine-tunes on labels"),
        ({"head_epochs": 0.0}, "--head-epochs and --head-lr"),
        ({"epoch_images": 4}, "--epoch-images is 4"),
        ({"optimizer": "sgd"}, "unknown optimizer"),
        ({"schedule": "steps"}, "unknown schedule"),
    ],
)
def test_what_does_not_go_together(
    run: Callable[..., Distilled], tmp_path: Path, options: dict[str, object], said: str
) -> None:
    with pytest.raises(RunError, match=said):
        run(**options)
    assert not (tmp_path / "run").exists()
