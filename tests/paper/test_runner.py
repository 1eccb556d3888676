"""Cells: interruption, resume, changed settings, unavailable methods."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kdedge.errors import RunError
from kdedge.paper.plan import METHODS, SCALES, Length, Method, Plan, paper_plan
from kdedge.paper.runner import Outcome, Unavailable, read_cells, run_cells

FAKES = (
    Method("teacher", 0, "teacher", "teacher", "timm/test_resnet"),
    Method("scratch-a", 2, "ResNet-50", "scratch", "timm/test_resnet"),
    Method("feature-b", 5, "ConvNet-9", "feature-kd", "timm/test_resnet", needs=("teacher",)),
)
DATA = {"images": "abc"}


class Fake:
    """Scores that depend on method and seed; remembers what it ran, may fail at one cell."""

    def __init__(
        self, fails: tuple[str, int] | None = None, error: Callable[[], Exception] = KeyboardInterrupt
    ) -> None:
        self.ran: list[tuple[str, int]] = []
        self.fails, self.error = fails, error

    def __call__(self, method: Method, seed: int, folder: Path) -> Outcome:
        assert folder.is_dir()
        assert not list(folder.iterdir())
        (folder / "weights").write_text("half")
        if (method.name, seed) == self.fails:
            raise self.error()
        self.ran.append((method.name, seed))
        return Outcome({"test_accuracy": 0.5 + seed / 10}, [{"epoch": 1.0, "loss": 2.0}], {"steps": 3})


def plan(**changes: object) -> Plan:
    return replace(Plan(SCALES["smoke"], FAKES, seeds=(0, 1)), **changes)


def run(tmp_path: Path, fake: Fake, given: Plan | None = None, data: dict[str, str] = DATA, **options: bool):
    return run_cells(given or plan(), tmp_path, data, fake, say=lambda _: None, **options)


ALL = [("teacher", 0), ("scratch-a", 0), ("scratch-a", 1), ("feature-b", 0), ("feature-b", 1)]


def test_every_cell_runs_once_and_teachers_with_one_seed(tmp_path: Path) -> None:
    fake = Fake()
    cells = run(tmp_path, fake)
    assert fake.ran == ALL == [(cell.method, cell.seed) for cell in cells]
    assert cells[2].outcome.scores == {"test_accuracy": 0.6}
    assert sorted((c.method, c.seed) for c in read_cells(tmp_path)) == sorted(ALL)
    kept = json.loads((tmp_path / "cells" / "scratch-a-seed1" / "cell.json").read_text())
    assert kept["settings"]["scale"]["labelled"] == {"epochs": 2, "steps": 4}


def test_interrupted_in_the_second_method_goes_on_there(tmp_path: Path) -> None:
    first = Fake(fails=("scratch-a", 1))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first)
    assert first.ran == ALL[:2]
    assert not (tmp_path / "cells" / "scratch-a-seed1" / "cell.json").exists()
    second = Fake()
    cells = run(tmp_path, second, resume=True)
    assert second.ran == ALL[2:]  # the folder of the broken cell was emptied, Fake says
    assert [(cell.method, cell.seed) for cell in cells] == ALL
    assert cells == run(tmp_path, Fake(fails=("teacher", 0)), resume=True)


def test_existing_cells_need_resume(tmp_path: Path) -> None:
    run(tmp_path, Fake())
    with pytest.raises(RunError, match="--resume"):
        run(tmp_path, Fake())


def test_changed_settings_are_refused_and_recomputed_on_demand(tmp_path: Path) -> None:
    run(tmp_path, Fake())
    other = plan(scale=SCALES["smoke"].with_(lr=0.5))
    with pytest.raises(RunError, match=r"teacher-seed0.*scale\.lr: 0\.001 before, 0\.5 now.*--recompute"):
        run(tmp_path, Fake(), other, resume=True)
    again = Fake()
    run(tmp_path, again, other, resume=True, recompute=True)
    assert again.ran == ALL


def test_other_images_are_other_settings(tmp_path: Path) -> None:
    run(tmp_path, Fake())
    with pytest.raises(RunError, match=r"data\.images: abc before, xyz now"):
        run(tmp_path, Fake(), data={"images": "xyz"}, resume=True)


def test_a_changed_teacher_makes_its_pupils_run_again(tmp_path: Path) -> None:
    run(tmp_path, Fake())
    teacher = replace(FAKES[0], network="timm/test_efficientnet")
    changed = plan(methods=(teacher, *FAKES[1:]))
    fake = Fake()
    run(tmp_path, fake, changed, resume=True, recompute=True)
    assert fake.ran == [("teacher", 0), ("feature-b", 0), ("feature-b", 1)]


def test_unavailable_methods_say_so_and_take_their_pupils_along(tmp_path: Path) -> None:
    fake = Fake(fails=("teacher", 0), error=lambda: Unavailable("weights not available"))
    cells = run(tmp_path, fake)
    assert fake.ran == [("scratch-a", 0), ("scratch-a", 1)]
    reasons = {(cell.method, cell.seed): cell.unavailable for cell in cells}
    assert reasons["teacher", 0] == reasons["feature-b", 1] == "weights not available"
    assert reasons["scratch-a", 0] == ""
    later = Fake()
    run(tmp_path, later, resume=True)  # the weights have come meanwhile
    assert later.ran == [("teacher", 0), ("feature-b", 0), ("feature-b", 1)]


def test_damaged_cell_is_named(tmp_path: Path) -> None:
    run(tmp_path, Fake())
    (tmp_path / "cells" / "scratch-a-seed0" / "cell.json").write_text("{}")
    with pytest.raises(RunError, match="scratch-a-seed0"):
        run(tmp_path, Fake(), resume=True)
    with pytest.raises(RunError, match="kdedge paper tables"):
        read_cells(tmp_path / "nothing")


def test_plan_takes_what_a_method_needs_along() -> None:
    names = [m.name for m in paper_plan("small", only=("label-kd-convnet9",)).methods]
    assert names == ["teacher", "transfer-resnet50", "label-kd-convnet9"]
    assert paper_plan("small").methods == METHODS
    for wrong in ({"scale": "tiny"}, {"seeds": 2}, {"only": ("nothing",)}, {"teacher": "timm/resnet50"}):
        with pytest.raises(RunError):
            paper_plan(**{"scale": "small", **wrong})  # type: ignore[arg-type]
    with pytest.raises(RunError, match="needs teacher"):
        Plan(SCALES["smoke"], FAKES[1:])


def test_length_in_steps() -> None:
    assert Length(10).of(320, 32) == 100
    assert Length(10, 7).of(320, 32) == 7
    assert Length(2).of(3, 32) == 2  # a batch is never larger than the items
