"""One architecture with trained and with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kdedge.card import ModelCard
from kdedge.errors import ModelError
from kdedge.files import write_text
from kdedge.paper.untrained import Embed, build_pair
from kdedge.preprocess import Preprocess
from kdedge.training.checkpoint import save_weights
from kdedge.training.run import Run
from kdedge.training.students import build_student
from kdedge.training.teacher_run import RunTeacher
from kdedge.training.teachers import TeacherInput, build_teacher
from kdedge.training.variant import Variant
from tests.training.conftest import PREPROCESS, SIZE, pictures, write_teacher

NAME = "timm/test_resnet"
PLAIN = TeacherInput(32, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


def run(embed: Embed, size: int = 32) -> np.ndarray:
    return embed(pictures(5, size), lambda done, total: None)


def test_torch_networks(tmp_path: Path) -> None:
    torch.manual_seed(7)
    student = build_student(NAME, 1, "random", 32)
    file = tmp_path / "weights.safetensors"
    save_file(student.trunk.state_dict(), file)
    pair = build_pair(NAME, str(file), PLAIN, seed=5)
    x = torch.from_numpy(pictures(5, 32).transpose(0, 3, 1, 2) / 255).float()
    with torch.inference_mode():
        assert np.allclose(run(pair.trained), student.trunk.eval()(x).numpy(), atol=1e-4)
        torch.manual_seed(5)
        fresh = build_student(NAME, 1, "random", 32).trunk.eval()
        assert np.allclose(run(pair.untrained), fresh(x).numpy(), atol=1e-4)
    assert (pair.name, pair.weights, pair.preprocess.std) == (NAME, "file weights.safetensors", (255.0, 255.0, 255.0))
    assert np.array_equal(run(pair.untrained), run(build_pair(NAME, str(file), PLAIN, seed=5).untrained))
    assert not np.allclose(run(pair.untrained), run(build_pair(NAME, str(file), PLAIN, seed=6).untrained))


def write_run(path: Path, name: str, variant: Variant) -> Path:
    """A finished run that nobody trained."""
    student = variant.apply(build_student(name, 3, size=32))
    made = Run.create(path)
    write_text(made.config, "")
    card = ModelCard("r", ("a", "b", "c"), Preprocess(32), student=name, provenance={"variant": variant.to_dict()})
    made.write_card(card)
    made.write_images([], [])
    save_weights(made.best, student, {})
    return path


def test_a_run_with_its_variant(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", "torchvision/resnet18", Variant(small_images=True, connector=11))
    pair = build_pair(f"run:{path}", seed=1)
    taught = RunTeacher(str(path)).embed(pictures(5, 32))
    assert np.allclose(run(pair.trained), taught, atol=1e-4)
    fresh = run(pair.untrained)
    assert fresh.shape == taught.shape == (5, 11)
    assert not np.allclose(fresh, taught, atol=1e-2)
    with pytest.raises(ModelError, match="leave out --size"):
        build_pair(f"run:{path}", given=TeacherInput(32))


def test_onnx(tmp_path: Path) -> None:
    file = write_teacher(tmp_path / "net.onnx", preprocess=PREPROCESS)
    for output, dim in (("", 6), (":pooled", 8)):
        name = f"onnx:{file}{output}"
        pair = build_pair(name, seed=1)
        taught = build_teacher(name).embed(pictures(5))
        assert pair.name == f"onnx:net.onnx{output}"
        assert np.allclose(run(pair.trained, SIZE), taught, atol=1e-5)
        fresh = run(pair.untrained, SIZE)
        assert fresh.shape == taught.shape == (5, dim)
        assert np.isfinite(fresh).all()
        assert not np.allclose(fresh, taught, atol=1e-2)
    with pytest.raises(ModelError, match="leave out --teacher-weights"):
        build_pair(f"onnx:{file}", "weights.pt")


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("timm/resnet10", "pretrained", "did you mean timm/resnet10t"),
        (NAME, "random", "needs trained weights"),
        (NAME, "absent.safetensors", "no such file"),
        ("vggface2/resnet50", "pretrained", "--teacher-weights"),
        ("onnx:absent.onnx", "pretrained", "no such ONNX file"),
    ],
)
def test_refused(name: str, weights: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build_pair(name, weights)
