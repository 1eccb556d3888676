"""The parts of ``benchmarks/enroll.py`` that need no training."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.enroll import markdown
from benchmarks.unknown.material import condition, make_split, stranger_splits
from benchmarks.unknown.measure import Tally, interval
from kdedge.data.folder import class_folders
from tests.test_benchmarks import CONDITIONS

PEOPLE = tuple(f"P{number:03d}" for number in range(1, 11))


def test_choices_of_people_differ_and_stay() -> None:
    found = stranger_splits(PEOPLE, 6, 4, seed=0)
    assert len(set(found)) == 4
    assert all(len(set(known)) == 6 for known in found)
    assert found[:2] == stranger_splits(PEOPLE, 6, 2, seed=0)


def test_nobody_is_on_two_sides(tmp_path: Path) -> None:
    for name in PEOPLE[:4]:
        for number in range(20):
            file = tmp_path / "all" / name / f"emotions_sheet-{number:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(f"{name} {number}".encode())
    split = make_split(class_folders(tmp_path / "all"), PEOPLE[:2], 1, tmp_path / "split")
    assert split.others.classes == PEOPLE[2:4]
    assert [part.counts() for part in (split.train, split.val, split.test, split.others)] == [
        [12, 12],
        [4, 4],
        [4, 4],
        [20, 20],
    ]
    names = [path.read_bytes() for part in (split.train, split.val, split.test, split.others) for path in part.paths]
    assert len(set(names)) == 80
    assert condition(split.train.paths[0]) == "emotions_sheet"


def test_intervals_are_over_people() -> None:
    tally = Tally()
    for person, share in enumerate([0.2, 0.4, 0.9]):
        for _ in range(3):  # more draws of the same people make it no narrower
            tally.add("x", (0, str(person)), np.arange(10) < 10 * share)
    found = interval(tally.found["x"])
    assert found["mean"] == pytest.approx(0.5)
    assert found["people"] == 3
    assert found["low"] == pytest.approx(0.2)
    assert found["high"] == pytest.approx(0.9)


def test_page() -> None:
    share = {"mean": 0.5, "low": 0.4, "high": 0.6, "people": 3}
    row = {"method": "student", "shots": 5, "enrolled": share, "trained": share, "enrolled, default": share}
    data = {
        "student": "timm/x",
        "steps": 3,
        "draws": 2,
        "images": {"training": 12, "validation": 4, "generated": 1000},
        "rate": 0.05,
        "sface_threshold": 0.363,
        "results": [row],
        "choices": [
            {"rejection": {"false_accept": 0.02}, "knownness": {"logit": {"validation": 0.9, "strangers": 0.8}}},
            {"rejection": {"false_accept": 0.04}, "knownness": {"logit": {"validation": 0.7, "strangers": 0.6}}},
        ],
        "conditions": CONDITIONS,
    }
    page = markdown(data)
    assert "| student | 5 | 0.50 (0.40-0.60) | - | - | 0.50 (0.40-0.60) |" in page
    assert "claims that 3% of strangers" in page
    assert "| logit | 0.800 | 0.700 |" in page
