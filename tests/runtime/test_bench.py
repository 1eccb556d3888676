"""The whole of a benchmark as data: what is measured, left out, warned of, and how it is shown."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kdedge.errors import CardError, DataError, ModelError, RunError
from kdedge.runtime.bench import run as bench_module
from kdedge.runtime.bench.diff import bench_diff, read_bench_file
from kdedge.runtime.bench.models import choose_files, precisions, resolve_provider, teacher_files
from kdedge.runtime.bench.quiet import Seen, Watch
from kdedge.runtime.bench.run import Plan, run_bench
from kdedge.runtime.bench.sweep import sweep, thread_counts
from kdedge.runtime.bench.table import as_markdown, as_text, bench_tables, notes
from kdedge.runtime.compare import Candidate
from kdedge.runtime.latency import Latency
from tests.conftest import color_card, write_color_model
from tests.runtime.test_power import Bench as Counter

SHORT: dict[str, Any] = {"threads": 1, "repeats": 3, "processes": 1}


@pytest.fixture(scope="module")
def found(color_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    teacher = write_color_model(tmp_path_factory.mktemp("bench") / "teacher.onnx")
    candidates = (
        Candidate("colors", "int8", color_model),
        Candidate("big", "fp32", teacher, role="teacher"),
    )
    plan = Plan(candidates, 16, color_model, **SHORT, sweep_batches=(1, 2), sweep_threads=(1,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_module, "PHOTOGRAPHS", ((64, 48),))
        patch.setattr(bench_module, "energy_sensor", lambda gpu: (None, "no counter here"))
        patch.setattr(bench_module, "sweep", partial(sweep, seconds=0.01))
        value: dict[str, Any] = json.loads(json.dumps(run_bench(plan).to_dict(), allow_nan=False))
    return value


def test_everything_is_there(found: dict[str, Any]) -> None:
    assert [row["role"] for row in found["rows"]] == ["student", "teacher"]
    for row in found["rows"]:
        assert row["cold_start"]["total_ms"] > 0
        assert row["peak_rss_mb"] == row["cold_start"]["samples"][0]["peak_rss_mb"] > 20
        assert row["energy"] is None
        assert row["engine_build_s"] is None
        assert row["single_stream"]["queries"] == len(row["samples_ms"]) == 3
    assert found["energy"] == {"source": None, "reason": "no counter here"}
    assert [(each["image"], each["width"]) for each in found["stages"]] == [("synthetic 64x48", 64)]
    assert found["overhead"]["pairs"] == 15
    cells = [(cell["model"], cell["batch"], cell["threads"]) for cell in found["sweep"]]
    assert cells == [("colors", 1, 1), ("big", 1, 1), ("colors", 2, 1), ("big", 2, 1)]


def test_tables(found: dict[str, Any]) -> None:
    tables = bench_tables(found)
    assert [table.title for table in tables] == [
        "Latency of one image",
        "Single stream",
        "Cold start",
        "From the file to the answer",
        "Throughput, images/s",
    ]
    for table in tables:
        assert all(len(row) == len(table.head) for row in table.rows)
    assert tables[0].rows[1][-3:] == ("1.0x", "-", "1.0x")
    text = as_text(tables, notes(found))
    assert text.splitlines()[0].split()[:3] == ["model", "precision", "MB"]
    assert "Energy was not measured: no counter here." in text
    assert "Classifier adds " in text
    page = as_markdown("A title", tables, ["A last word."])
    assert page.startswith("# A title\n\n## Latency of one image\n\n| model | precision |")
    assert page.endswith("\n\nA last word.\n")


def test_energy_is_shown_with_its_source(found: dict[str, Any]) -> None:
    used = {"j_per_image": 0.0123, "gross_j_per_image": 0.02, "idle_w": 3.0, "busy_w": 7.5, "images": 40}
    value = {**found, "energy": {"source": "RAPL (package-0)", "reason": None}}
    value["rows"] = [{**found["rows"][0], "energy": used}, found["rows"][1]]
    (table,) = [table for table in bench_tables(value) if table.title == "Energy"]
    assert table.rows == (("colors", "int8", "12.30", "20.00", "3.00", "7.50", "40"),)
    assert "RAPL (package-0)" in table.note


def test_energy_of_a_counter(color_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter()
    monkeypatch.setattr(bench_module, "energy_sensor", lambda gpu: (counter, ""))

    def measured(runs: Any, batches: Any, sensor: Any, progress: Any) -> Any:
        assert sensor is counter
        assert batches == {"0": 1}
        runs["0"]()
        return {}, "the counter of RAPL stands still"

    monkeypatch.setattr(bench_module, "measure_energy", measured)
    candidate = Candidate("colors", "fp32", color_model)
    done = run_bench(Plan((candidate,), 16, **{**SHORT, "processes": 0})).to_dict()
    assert done["energy"] == {"source": None, "reason": "the counter of RAPL stands still"}
    assert done["overhead"] is None
    assert done["stages"] == done["sweep"] == []
    assert done["rows"][0]["cold_start"] is None
    assert done["rows"][0]["peak_rss_mb"] > 20


def test_an_image_that_is_missing_is_said_first(color_model: Path) -> None:
    plan = Plan((Candidate("colors", "fp32", color_model),), 16, color_model, images=(Path("absent.jpg"),))
    with pytest.raises(DataError, match=r"absent\.jpg: no such image"):
        run_bench(plan)


def test_a_fixed_file_has_one_cell(tmp_path: Path, color_model: Path) -> None:
    three = Candidate("three", "fp32", write_color_model(tmp_path / "three.onnx", batch=3))
    cells = sweep([three, Candidate("any", "fp32", color_model)], 16, (1, 2), (1,), seconds=0.01)
    assert [(cell.model, cell.batch, cell.fixed) for cell in cells] == [
        ("three", 3, True),
        ("any", 1, False),
        ("any", 2, False),
    ]
    with pytest.raises(ModelError, match="1 or more"):
        sweep([three], 16, (0,), (1,))


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (6, (1, 2, 4, 6))]
)
def test_thread_counts(cores: int, counts: tuple[int, ...]) -> None:
    assert thread_counts(cores) == counts


QUIET = Seen(0.0, 0.0, {}, None, (None, None), {})
KNOWN = {"cores_usable": 4, "load_average": 0.2, "governor": "performance"}


def test_a_quiet_machine_is_not_warned_of() -> None:
    assert QUIET.warnings(KNOWN, [("net", Latency(tuple([1.0] * 50 + [1.2] * 3)))]) == []
    assert Seen(None, None, {}, None, (None, None), {}).warnings({**KNOWN, "governor": "", "load_average": None}) == []


@pytest.mark.parametrize(
    ("change", "known", "said"),
    [
        ({"others": 0.2}, {}, "other processes took 20%"),
        ({"stolen": 0.1}, {}, "hypervisor gave 10%"),
        ({"rise": 15.0}, {}, "15 degrees warmer"),
        ({"mhz": (3000.0, 2000.0)}, {}, "from 3000 to 2000 MHz"),
        ({"throttled": {"thermal": 3}}, {}, "throttled (thermal: 3)"),
        ({"throttled": {"pi": ["under-voltage"]}}, {}, "throttled (pi: under-voltage)"),
        ({}, {"load_average": 1.5}, "load average was 1.5 on 4 cores"),
        ({}, {"governor": "powersave"}, "governor powersave"),
    ],
)
def test_what_disturbs_is_said(change: dict[str, Any], known: dict[str, Any], said: str) -> None:
    (warning,) = replace(QUIET, **change).warnings({**KNOWN, **known})
    assert said in warning


def test_a_wide_spread_is_said() -> None:
    (warning,) = QUIET.warnings(KNOWN, [("net int8", Latency((1.0,) * 8 + (2.0,) * 4)), ("few", Latency((1.0, 9.0)))])
    assert warning.startswith("net int8: p90 is 2.00 times p50")


def test_a_watch_sees_this_machine() -> None:
    seen = Watch().end()
    assert json.dumps(seen.to_dict(), allow_nan=False)
    assert seen.others is None or 0 <= seen.others <= 1


def write_run(folder: Path, *names: str) -> None:
    for name in names:
        precision = next((word for word in ("int8", "fp16") if word in name), "fp32")
        target = "jetson" if "jetson" in name else "x86"
        write_color_model(folder / name, color_card(precision=precision, target=target))


def test_a_model_and_its_siblings(tmp_path: Path) -> None:
    write_run(tmp_path, "student.onnx", "student.int8.onnx", "student.fp16.onnx")
    write_color_model(tmp_path / "other.onnx")
    chosen = choose_files(str(tmp_path))
    assert (chosen.path.name, chosen.provider) == ("student.int8.onnx", "cpu")
    assert [(each.precision, each.path.name) for each in chosen.candidates] == [
        ("fp32", "student.onnx"),
        ("int8", "student.int8.onnx"),
    ]
    assert choose_files(str(tmp_path / "student.fp16.onnx")).candidates[-1].precision == "fp16"  # as it was meant
    assert [each.path.name for each in choose_files(str(tmp_path / "other.onnx")).candidates] == ["other.onnx"]
    assert resolve_provider(tmp_path / "other.onnx", "auto", 1) == "cpu"


def test_files_for_tensorrt(tmp_path: Path) -> None:
    write_run(tmp_path, "student.onnx", "student.int8.onnx", "student.jetson.int8.onnx", "student.jetson.fp16.onnx")
    chosen = choose_files(str(tmp_path), "tensorrt")
    assert [each.path.name for each in chosen.candidates] == [
        "student.onnx",
        "student.jetson.int8.onnx",
        "student.jetson.fp16.onnx",
    ]
    assert precisions("cuda") == ("fp32", "int8", "fp16")
    assert precisions("cpu") == ("fp32", "int8")


def test_a_file_without_a_card(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(write_color_model(tmp_path / "x.onnx"))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(CardError, match="no kdedge card"):
        choose_files(str(tmp_path / "x.onnx"))
    (teacher,) = teacher_files("net", {"fp32": tmp_path / "x.onnx", "int8": None})  # a teacher needs none
    assert teacher.role == "teacher"
    with pytest.raises(ModelError, match=r"absent\.onnx: no such model file"):
        teacher_files("net", {"int8": tmp_path / "absent.onnx"})


def test_before_and_after(found: dict[str, Any], tmp_path: Path) -> None:
    faster = {**found["rows"][0], "samples_ms": [value / 2 for value in found["rows"][0]["samples_ms"] * 20]}
    first = {**found["rows"][0], "samples_ms": found["rows"][0]["samples_ms"] * 20}
    before = {**found, "rows": [first, found["rows"][1]]}
    after = {**found, "rows": [faster, {**found["rows"][1], "model": "new"}]}
    after["conditions"] = {**found["conditions"], "threads": 9}
    table, said = bench_diff(before, after)
    ((*_, ratio, _interval, verdict),) = table.rows
    assert (ratio, verdict) == ("2.000x", "faster")
    assert said == ["threads: 1 before, 9 after"]
    assert bench_diff(before, before)[0].rows[0][-1] == "no difference shown"
    with pytest.raises(RunError, match="no network of the same name"):
        bench_diff(before, {**after, "rows": after["rows"][1:]})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [{"model": "x"}], "conditions": {"a": 1}}'])
def test_a_file_that_is_no_benchmark(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RunError, match=r"x\.json: not what"):
        read_bench_file(tmp_path / "x.json")
    with pytest.raises(RunError, match="cannot be read"):
        read_bench_file(tmp_path / "absent.json")
