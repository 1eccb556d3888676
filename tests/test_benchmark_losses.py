"""The comparison of losses: its table and ranking on constructed scores, and that a finished cell is not trained again."""

import json

import pytest

from benchmarks import losses, plan_scale


def cell(data: str, combination: str, seed: int, accuracy: float) -> dict:
    scores = {"r2": 0.25, "cosine": 0.5, "knn": 0.4, "teacher_accuracy": 0.9, "views": 10, "images_per_s": 5.0}
    return {"data": data, "combination": combination, "seed": seed, "accuracy": accuracy, **scores}


CELLS = [
    cell("faces", "mse:standardize", 0, 0.6),
    cell("faces", "mse:standardize", 1, 0.8),
    cell("cifar10", "mse:standardize", 0, 0.2),
    cell("faces", "srd:standardize", 0, 0.5),
    cell("cifar10", "srd:standardize", 0, 0.6),
]


def test_data_sets_weigh_the_same_however_many_seeds_they_have():
    assert losses.ranking(CELLS) == [("srd:standardize", pytest.approx(0.55)), ("mse:standardize", pytest.approx(0.45))]
    middle, spread = losses.figure(CELLS, "mse:standardize", "faces", "accuracy")
    assert (middle, spread) == (pytest.approx(0.7), pytest.approx(0.1 * 2**0.5))


def test_finished_cells_are_put_into_the_table(tmp_path):
    for found in CELLS:
        loss, targets = found["combination"].split(":")
        out = tmp_path / "runs" / f"{found['data']}-{loss}-{targets}-5-seed{found['seed']}"
        out.mkdir(parents=True)
        (out / "cell.json").write_text(json.dumps(found), encoding="utf-8")
    words = ["--faces", "a", "--faces-teacher", "b", "--cifar10", "c", "--cifar10-teacher", "d", "--steps", "5"]
    words += ["--combinations", "mse:standardize", "srd:standardize", "--seeds", "0"]
    page = losses.main([*words, "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")])
    text = page.read_text(encoding="utf-8")
    assert "| srd | standardize | 0.250 | 0.500 | 0.400 | 0.500 ± 0.000 |" in text
    assert text.index("| srd |") < text.index("| mse |")
    assert len(json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["cells"]) == 4


def test_a_folder_needs_its_teacher(capsys):
    with pytest.raises(SystemExit):
        losses.main(["--faces", "a"])
    assert "--faces-teacher" in capsys.readouterr().err


def test_the_plan_does_its_sums():
    found = plan_scale.plan(1e8, 2, 3, 768, 224, 25.0, teacher_rate=1000, student_rate=2000, devices=10)
    assert found.shards_gb == pytest.approx(2500)
    assert found.activations_gb == pytest.approx(1e8 * 2 * 768 * 2 / 1e9)
    assert found.decoded_gb == pytest.approx(15052.8)
    assert found.teacher_hours == pytest.approx(2e8 / 1000 / 3600)
    assert found.student_hours == pytest.approx(6e8 / 2000 / 3600)
    assert found.wall_hours == pytest.approx((found.teacher_hours + found.student_hours) / 10)
    assert found.reading_mb_s == pytest.approx(50)
    told = json.loads(plan_scale.main(["--teacher-rate", "1000", "--student-rate", "2000", "--json"]))
    assert told["images"] == 1e8
    with pytest.raises(SystemExit):
        plan_scale.main(["--teacher-rate", "0", "--student-rate", "1"])
