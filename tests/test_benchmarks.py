"""The scripts that measure: their options, their tables, and the zoo they make."""

import importlib
import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_jetson, bench_laptop, common, paper, quickstart_seeds, readme_table, startup, students, zoo
from kdedge.card import ModelCard
from kdedge.errors import DataError, ModelError
from kdedge.files import sha256_of
from kdedge.runtime.bench.run import Plan
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.models import DEFAULT_ZOO
from kdedge.training.config import DistillConfig, read_config, write_config
from tests.conftest import color_card, write_color_model

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in ("__init__", "common"))
ENTRIES = sorted(path.parent for path in (ROOT / "models").glob("*/card.json"))
CONDITIONS: dict[str, Any] = {
    "date": "2026-01-02T03:04:05+00:00",
    "cpu": "Some CPU (R) 3.2",
    "cpu_flags": ["avx2"],
    "cores_usable": 2,
    "os": "Linux",
    "versions": {"python": "3.11.7", "onnxruntime": "1.32.0"},
}


def summary(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A quickstart's summary that meets every target, just."""
    return {
        "seed": seed,
        "budget_minutes": 5.0,
        "student": "timm/resnet10t",
        "student_weights": "random",
        "teacher_accuracy": 0.97,
        "scratch_accuracy": 0.83,
        "student_fp32_accuracy": 0.95,
        "student_int8_accuracy": 0.93,
        "shift_accuracy": 0.6,
        "teacher_shift_accuracy": 0.98,
        "heldout_r2": 0.3,
        "heldout_cosine": 0.6,
        "training_seconds": 64.0,
        "fp32_bytes": 13_500_000,
        "int8_bytes": 3_800_000,
        "resnet50_fp32_bytes": 94_000_000,
        "resnet50_int8_bytes": 24_000_000,
        "p50_ms": {"student_fp32": 2.0, "student_int8": 1.0, "resnet50_fp32": 12.0, "resnet50_int8": 4.0},
        "speedup": 12.0,
        "size_ratio": 24.7,
        "int8_conv_share": 1.0,
        "images": {"test": 100},
        "seconds": {"total": 300.0, "data": 5.0},
        "bench": {"conditions": CONDITIONS, "rows": []},
        **changes,
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script: str, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"benchmarks.{script}").main(["--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")
    assert f"`{script}`" in (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")


def test_markdown_table() -> None:
    assert (
        common.markdown_table(("a", "b"), [("x", 1), ("y", 2)]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n| y | 2 |\n"
    )


def test_fill_replaces_what_is_between() -> None:
    page = "above\n<!-- t -->old\n<!-- /t -->\nbelow\n"
    assert common.fill(page, "t", "new \\1\n") == "above\n<!-- t -->\nnew \\1\n<!-- /t -->\nbelow\n"
    assert common.fill(common.fill(page, "t", "x"), "t", "x") == common.fill(page, "t", "x")
    for broken in ("nothing", page * 2):
        with pytest.raises(DataError, match="exactly one"):
            common.fill(broken, "t", "new")


def test_conditions_for_people_and_file_names() -> None:
    assert common.slug(CONDITIONS) == "some-cpu-r-3.2-2-cores-ort1.32.0"
    assert "2026-01-02, Some CPU (R) 3.2 (avx2), 2 cores, Linux; python 3.11.7" in common.conditions_line(CONDITIONS)
    assert "4 threads" in common.conditions_line({**CONDITIONS, "threads": 4})
    assert "python" in common.all_conditions()["versions"]


def test_images_per_second(tmp_path: Path) -> None:
    assert common.images_per_second(tmp_path, 10.0) is None
    write_config(tmp_path / "config.toml", DistillConfig("t", "s", "out", transfer="x", batch=32))
    (tmp_path / "metrics.jsonl").write_text('{"step": 10}\n{"step": 50, "r2": 0.1}\n')
    assert common.images_per_second(tmp_path, 10.0) == 160.0


def test_a_finished_quickstart_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> None:
        calls.append(command)
        out = Path(command[command.index("--out") + 1])
        assert not out.exists()
        out.mkdir()
        (out / "summary.json").write_text(json.dumps(summary()))

    monkeypatch.setattr(common.subprocess, "run", run)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.toml").touch()  # an interrupted run
    for _ in range(2):
        assert common.run_quickstart(tmp_path / "run", "timm/resnet10t", 3, 5.0) == summary()
    assert len(calls) == 1
    assert calls[0][1:] == shell("-m kdedge quickstart --student timm/resnet10t --seed 3 --budget 5 --out", tmp_path)


def shell(words: str, folder: Path) -> list[str]:
    return [*words.split(), str(folder / "run")]


def test_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(out: Path, student: str, seed: int, budget: float) -> dict[str, Any]:
        return summary(seed, student=student, student_int8_accuracy=0.9 + 0.02 * seed, budget_minutes=budget)

    monkeypatch.setattr(students, "run_quickstart", run)
    page = students.main(["timm/a", "timm/b", "--seeds", "0", "1", "--results", str(tmp_path)])
    table = [line for line in page.read_text().splitlines() if line.startswith("| timm/")]
    assert [line.split(" | ")[0] for line in table] == ["| timm/a", "| timm/b"]
    assert table[0].split(" | ")[1:8] == ["random", "-", "0.970", "0.950", "0.910", "0.830", "0.600"]
    data = json.loads(page.with_suffix(".json").read_text())
    assert [(row["student"], row["seed"]) for row in data["rows"]] == [
        ("timm/a", 0),
        ("timm/a", 1),
        ("timm/b", 0),
        ("timm/b", 1),
    ]
    assert data["conditions"]["versions"]["kdedge"]
    assert students.short("ImageNet weights of x 1.0") == "ImageNet"


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, None),
        ({"teacher_accuracy": 0.96}, "teacher accuracy"),
        ({"student_int8_accuracy": 0.98}, "int8 from fp32"),
        ({"scratch_accuracy": 0.84}, "int8 above scratch"),
        ({"seconds": {"total": 361.0}}, "seconds"),
        ({"speedup": 9.9}, "times faster"),
        ({"size_ratio": 17.0}, "times smaller"),
    ],
)
def test_targets(changes: dict[str, Any], missed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart_seeds, "run_quickstart", lambda out, student, seed, budget: summary(seed, **changes))
    assert quickstart_seeds.main(["--seeds", "0", "7", "--results", str(tmp_path)]) == (1 if missed else 0)
    (page,) = tmp_path.glob("*.md")
    (data,) = tmp_path.glob("*.json")
    for row in json.loads(data.read_text())["rows"]:
        assert [name for name, met in row["met"].items() if not met] == ([missed] if missed else [])
    assert page.read_text().count("(missed)") == (2 if missed else 0)
    assert "seed 7" in page.read_text()


def test_readme_table(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(summary()))
    page = tmp_path / "README.md"
    page.write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    readme_table.main([str(tmp_path / "summary.json"), "--readme", str(page)])
    text = page.read_text(encoding="utf-8")
    assert "| student int8 | 0.930 | 3.8 MB | 1.00 ms |" in text
    assert "12.0 times faster and 24.7 times smaller" in text


BENCH = ["--repeats", "2", "--min-seconds", "0", "--threads", "1", "--processes", "1", "--no-sweep"]


def test_bench_laptop(tmp_path: Path, color_model: Path, color_images: Path) -> None:
    options = [
        "--teacher-fp32",
        str(color_model),
        "--image",
        str(color_images / "red/0.png"),
        "--results",
        str(tmp_path),
    ]
    page = bench_laptop.main([str(color_model), *BENCH, *options])
    data = json.loads(page.with_suffix(".json").read_text())
    assert [(row["model"], row["role"]) for row in data["rows"]] == [
        ("colors", "student"),
        (bench_laptop.TEACHER, "teacher"),
    ]
    assert {row["path"] for row in data["rows"]} == {"student.onnx"}
    assert data["conditions"]["versions"]["kdedge"]
    assert data["rows"][0]["cold_start"]["samples"]
    assert data["overhead"]["pairs"] == 10
    assert page.name.startswith("laptop-")
    assert "# colors beside ResNet-50" in page.read_text()


def test_bench_jetson_runs_on_a_gpu_or_not_at_all(tmp_path: Path, color_model: Path, monkeypatch) -> None:
    import onnxruntime

    options = [str(color_model), "--results", str(tmp_path)]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for provider in ("tensorrt", "cuda"):
        with pytest.raises(ModelError, match=f"has no {provider} \\(it has cpu\\)"):
            bench_jetson.main([*options, "--provider", provider])
    assert not list(tmp_path.iterdir())


def test_bench_jetson_makes_a_teacher_to_carry_over(tmp_path: Path, color_model: Path, monkeypatch) -> None:
    monkeypatch.setattr(bench_jetson, "TEACHER", "timm/resnet10t")
    out = tmp_path / "teacher"
    assert bench_jetson.main([str(color_model), "--make-teacher", str(out)]) == out
    assert sorted(path.name for path in out.iterdir()) == [
        "resnet10t.fp16.onnx",
        "resnet10t.fp32.onnx",
        "resnet10t.int8.onnx",
    ]
    card = Classifier(out / "resnet10t.int8.onnx", 1).card
    assert (card.preprocess.size, len(card.labels), card.target) == (16, 3, "jetson")


def test_bench_jetson_measures_energy_and_engines(tmp_path: Path, color_model: Path, monkeypatch, capsys) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(bench_jetson, "refuse", lambda provider: None)
    monkeypatch.setattr(bench_jetson, "write", lambda given, plan: plans.append(plan) or tmp_path)
    options = ["--teacher-fp32", str(color_model), "--teacher-fp16", str(color_model), "--threads", "1"]
    bench_jetson.main([str(color_model), *options])
    (plan,) = plans
    assert (plan.provider, plan.engine_build, plan.energy) == ("tensorrt", True, True)
    assert [(each.role, each.precision) for each in plan.candidates][1:] == [("teacher", "fp32"), ("teacher", "fp16")]
    assert len(plan.sweep_threads) == 1
    assert "this is no Jetson" in capsys.readouterr().err


def test_startup(color_model: Path, color_images: Path, capfd) -> None:
    image = str(color_images / "green/0.png")
    samples = startup.take_turns({"bare": [sys.executable, "-c", startup.BARE, image, str(color_model), "1"]}, 2)
    found = startup.medians(samples["bare"])
    assert len(samples["bare"]) == 2
    assert 0 < found["cpu_s"] < 60
    assert found["highest_peak_mb"] >= found["peak_mb"] > 20
    rows = {"bare script": found, "kdedge classify": found, "kdedge --help": found}
    page = startup.markdown(
        {"rows": rows, "classify_over_bare": {"wall_s": 1.0}, "conditions": {**CONDITIONS, "repeats": 2, "threads": 1}}
    )
    assert "takes 1.00 times as long" in page
    with pytest.raises(SystemExit, match="exit code 3"):
        startup.run([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(SystemExit):
        startup.main([str(color_model), "--repeats", "3"])


def test_startup_stays_light() -> None:
    code = (
        "import benchmarks.startup, sys; sys.exit(any(name in sys.modules for name in ('numpy', 'onnxruntime', 'cv2')))"
    )
    importlib.import_module("subprocess").run([sys.executable, "-c", code], check=True, cwd=ROOT)


def finished_run(folder: Path, **changes: Any) -> Path:
    """A run directory with an exported model, as far as the zoo looks at it."""
    run = folder / "runs/first"
    card = color_card(
        precision="int8",
        target="x86",
        teacher="teacher.onnx",
        scores={"test_accuracy": 0.95},
        quantization={"method": "minmax", "int8_conv_share": 1.0},
        provenance={"student_weights": "random", "steps": 9, "loss": "mse", "seed": 0},
        licence="MIT",
        notes="Knows colours.",
        expects="aligned face crops",
        **changes,
    )
    write_color_model(run / "student.int8.onnx", card)
    config = DistillConfig(
        teacher=f"onnx:{folder}/cache/teacher.onnx",
        student="test/colors",
        out=str(run),
        transfer=str(run / "data/transfer"),
        train="/elsewhere/runs/first/data/train",
        test="/elsewhere/photos",
        minutes=1.0,
    )
    write_config(run / "config.toml", config)
    return run


def test_paper_results_keep_their_conditions(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(DataError, match=r"tables\.json"):
        paper.main([str(tmp_path / "run"), "x"])
    (tmp_path / "run/ablation.json").write_text('{"rows": []}')
    (tmp_path / "run/ablation.md").write_text("# Input x loss\n\n![a](features.png)\n")
    for name in ("features", "figure-8", "crops"):
        (tmp_path / f"run/{name}.png").write_bytes(b"picture")
    page = paper.main([str(tmp_path / "run"), "ablation", "--results", str(tmp_path)])
    data = json.loads(page.with_suffix(".json").read_text())
    assert data["rows"] == []
    assert page.stem.endswith(common.slug(data["conditions"]))
    text = page.read_text()
    assert f"![a]({page.stem}-features.png)" in text
    assert f"![figure-8]({page.stem}-figure-8.png)" in text
    assert common.conditions_line(data["conditions"]) in text
    assert (tmp_path / f"{page.stem}-figure-8.png").read_bytes() == b"picture"
    assert "crops" not in text


def test_zoo_entry(tmp_path: Path) -> None:
    run, models = finished_run(tmp_path), tmp_path / "models"
    (run / "summary.json").write_text(json.dumps(summary()))
    models.mkdir()
    (models / "README.md").write_text((ROOT / "models/README.md").read_text(encoding="utf-8"), encoding="utf-8")
    for _ in range(2):  # the second replaces the first
        entry = zoo.main([str(run), "colours", "--models", str(models)])
    check_entry(entry)
    assert Classifier(entry / "model.int8.onnx", 1).card.name == "colours"
    page = (entry / "README.md").read_text(encoding="utf-8")
    assert "| `int8_test_accuracy` | 0.930 |" in page
    assert "Knows colours." in page
    assert "kdedge classify --faces photo.jpg --model colours" in page
    table = (models / "README.md").read_text(encoding="utf-8")
    assert table.count("| [colours](colours/README.md) | `test/colors` | 3 |") == 1
    assert sorted(path.name for path in models.iterdir()) == ["README.md", "colours"]
    recipe = tomllib.loads((entry / "recipe.toml").read_text(encoding="utf-8"))
    assert recipe["commands"] == [
        "kdedge quickstart --student timm/resnet10t --seed 0 --budget 5 --out runs/colours",
        "python -m benchmarks.zoo runs/colours colours",
    ]
    assert recipe["distill"]["teacher"] == "onnx:teacher.onnx"
    folders = {key: recipe["distill"][key] for key in ("out", "transfer", "train", "test")}
    assert folders == {
        "out": "runs/colours",
        "transfer": "runs/colours/data/transfer",
        "train": "runs/colours/data/train",
        "test": "photos",
    }
    assert read_config(entry / "recipe.toml").minutes == 1.0


def test_zoo_of_a_plain_run(tmp_path: Path) -> None:
    entry = zoo.main([str(finished_run(tmp_path)), "colours", "--models", str(tmp_path / "models")])
    check_entry(entry)
    assert "test_accuracy" in (entry / "README.md").read_text(encoding="utf-8")


def test_zoo_takes_words_and_the_score_of_the_very_file(tmp_path: Path) -> None:
    run, report = finished_run(tmp_path), tmp_path / "scores.json"
    found = {"sha256": sha256_of(run / "student.int8.onnx"), "accuracy": 0.875}
    report.write_text(json.dumps(found))
    given = [str(run), "colours", "--models", str(tmp_path / "models"), "--evaluated", str(report)]
    entry = zoo.main([*given, "--licence", "CC0", "--notes", "", "--expects", "a colour"])
    check_entry(entry)
    card = Classifier(entry / "model.int8.onnx", 1).card
    assert (card.licence, card.notes, card.expects) == ("CC0", "", "a colour")
    assert card.scores["int8_test_accuracy"] == 0.875
    report.write_text(json.dumps({**found, "sha256": "other"}))
    with pytest.raises(DataError, match="another file"):
        zoo.main(given)


def test_the_recipe_begins_with_the_teacher(tmp_path: Path) -> None:
    run, teacher = finished_run(tmp_path), tmp_path / "runs/teacher"
    teacher.mkdir()
    (teacher / "config.toml").write_text('command = "kdedge teacher fit --train all --out runs/teacher"')
    write_config(run / "config.toml", replace(read_config(run / "config.toml"), teacher=f"run:{teacher}"))
    commands = tomllib.loads(zoo.recipe(run, "colours", {}))["commands"]
    assert commands[0] == "kdedge teacher fit --train all --out runs/teacher"
    assert commands[2:] == ["kdedge export runs/colours --int8", "python -m benchmarks.zoo runs/colours colours"]


def test_zoo_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"student\.int8\.onnx"):
        zoo.main([str(tmp_path), "x", "--models", str(tmp_path / "models")])
    monkeypatch.setattr(zoo, "MOST_BYTES", 10)
    with pytest.raises(DataError, match="at most 10"):
        zoo.main([str(finished_run(tmp_path)), "x", "--models", str(tmp_path / "models")])
    assert not (tmp_path / "models").exists()


def test_the_default_is_an_entry() -> None:
    assert DEFAULT_ZOO in {entry.name for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_of_the_zoo(entry: Path) -> None:
    check_entry(entry)
    assert f"[{entry.name}]" in (ROOT / "models/README.md").read_text(encoding="utf-8")


def check_entry(entry: Path) -> None:
    """An entry is small, says the same everywhere, and names no place of the machine it was made on."""
    model = entry / "model.int8.onnx"
    assert model.stat().st_size <= zoo.MOST_BYTES
    card = ModelCard.from_json((entry / "card.json").read_text(encoding="utf-8"))
    assert Classifier(model, 1).card == card
    assert (card.name, card.precision) == (entry.name, "int8")
    page = (entry / "README.md").read_text(encoding="utf-8")
    assert page == zoo.readme(card, model.stat().st_size)
    assert all(f"`{label}`" in page for label in card.labels)
    assert all(f"| `{name}` | {value:.3f} |" in page for name, value in card.scores.items())
    for file in ("card.json", "recipe.toml", "README.md"):
        text = (entry / file).read_text(encoding="utf-8")
        assert not any(
            f"{start}/{place}/" in text for start in '" =:' for place in ("home", "root", "opt", "work", "tmp")
        ), file
