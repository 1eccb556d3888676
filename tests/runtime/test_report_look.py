"""A run's files on labelled images: which images, what the files said, what is worth showing."""

from pathlib import Path

import numpy as np
import pytest

from kdedge.errors import DataError
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.evaluate import evaluate
from kdedge.runtime.report.look import find_images, look, thin
from kdedge.runtime.report.pictures import MOST_MISTAKES, pick_changes, pick_examples, pick_mistakes
from kdedge.runtime.run_reader import read_run
from tests.runtime.runs import write_images, write_run


@pytest.fixture
def test_images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "test")


def test_scores_are_those_of_evaluate(tmp_path: Path, test_images: Path) -> None:
    run = read_run(write_run(tmp_path / "run", settings={"test": str(test_images)}))
    found = find_images(run)
    assert found
    assert (found.role, found.of, found.recorded) == ("test", 12, True)
    seen: list[tuple[int, int]] = []
    got = look(run, found, 1, lambda done, total, _note="": seen.append((done, total)))
    for precision, answers in got.answers.items():
        wanted = evaluate(Classifier(answers.export.path, 1), found.data)
        assert answers.scores.accuracy == wanted.scores.accuracy
        assert (answers.scores.confusion == wanted.scores.confusion).all()
        assert answers.export.card.precision == precision
    assert got.best is got.answers["int8"]
    assert got.whole
    assert seen[-1] == (12, 12)


def test_mistakes_and_changes_are_the_surest_first(tmp_path: Path, test_images: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    found = find_images(run, test_images)
    assert found
    assert found.role == "given"
    got = look(run, found, 1)
    wrong = pick_mistakes(got)
    assert {(one.truth, one.predicted) for one in wrong} == {("green", "blue"), ("red", "blue")}
    assert [one.probability for one in wrong] == sorted((one.probability for one in wrong), reverse=True)
    assert wrong[0].image.shape == (16, 16, 3)
    changed = pick_changes(got)
    assert len(changed) == len(wrong) == 8
    assert all(one.fp32[0] == one.truth and one.int8[0] == "blue" for one in changed)
    assert [one.fp32[1] for one in changed] == sorted((one.fp32[1] for one in changed), reverse=True)
    assert len(wrong) <= MOST_MISTAKES


def test_images_that_were_trained_on_are_counted(tmp_path: Path, test_images: Path) -> None:
    known = sorted(test_images.rglob("*.png"))[:5]
    run = read_run(write_run(tmp_path / "run", settings={"test": str(test_images)}, trained=known))
    found = find_images(run)
    assert found
    got = look(run, found, 1)
    assert (got.trained, got.heldout) == (5, 0)
    assert sum(map(len, pick_examples(run).values())) == 5


@pytest.mark.parametrize(("key", "role"), [("val", "validation"), ("train", "training"), ("data", "training")])
def test_a_folder_that_the_run_knows_is_called_what_it_was(
    tmp_path: Path, test_images: Path, key: str, role: str
) -> None:
    run = read_run(write_run(tmp_path / "run", settings={key: str(test_images)}))
    assert find_images(run) is None  # never taken by itself
    found = find_images(run, test_images)
    assert found
    assert (found.role, found.recorded) == (role, False)


def test_the_test_part_of_a_manifest(tmp_path: Path, test_images: Path) -> None:
    lines = ["path,label,class_name,split"]
    for number, name in enumerate(("blue", "green", "red")):
        lines += [f"test/{name}/{i}.png,{number},{name},{'train' if i < 2 else 'test'}" for i in range(4)]
    (tmp_path / "split.csv").write_text("\n".join(lines))
    run = read_run(write_run(tmp_path / "run", settings={"manifest": str(tmp_path / "split.csv")}))
    found = find_images(run)
    assert found
    assert (found.role, found.of) == ("test", 6)
    assert {path.name for path in found.data.paths} == {"2.png", "3.png"}


def test_other_classes_are_refused(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    images = write_images(tmp_path / "x", {"blue": (0, 0, 255), "pink": (255, 0, 255)})
    with pytest.raises(DataError, match="pink"):
        find_images(run, images)


def test_thinning_keeps_the_share_of_each_class(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    found = find_images(run, write_images(tmp_path / "test", each=10), 6)
    assert found
    assert (len(found.data), found.of, found.data.counts()) == (6, 30, [2, 2, 2])
    assert thin(found.data, 100) is found.data
    assert len(thin(found.data, 1)) == 1


def test_unreadable_images_are_left_out_and_too_many_are_an_error(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    images = write_images(tmp_path / "test", each=10)
    (images / "red" / "0.png").write_bytes(b"none")
    found = find_images(run, images)
    assert found
    got = look(run, found, 1)
    assert (len(got.paths), len(got.unreadable)) == (29, 1)
    assert got.best.guesses.shape == (29,)
    assert not got.whole
    for place in range(1, 5):
        (images / "red" / f"{place}.png").write_bytes(b"none")
    with pytest.raises(DataError, match="above 5 %"):
        look(run, found, 1)


def test_files_of_another_size_see_the_same_images(tmp_path: Path, test_images: Path) -> None:
    """An fp32 file of other preprocessing gets its own pixels."""
    from dataclasses import replace

    from tests.conftest import color_card, write_color_model

    path = write_run(tmp_path / "run")
    card = color_card(target="x86", precision="fp32")
    dark = card.with_(preprocess=replace(card.preprocess, mean=(0.0, 0.0, 0.0)))
    write_color_model(path / "student.onnx", dark)
    run = read_run(path)
    found = find_images(run, test_images)
    assert found
    got = look(run, found, 1)
    alone = Classifier(path / "student.onnx", 1).predict(list(got.paths), top=1)
    assert np.allclose(got.answers["fp32"].sure, [one.probability for one in alone])
