"""The comparison of int8 files: its judgement and table on constructed figures, and one small network all the way."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import arm64_qemu, int8_export
from benchmarks.int8 import arithmetic, arm64, peers, train
from benchmarks.int8.ours import adopt, size_of
from benchmarks.int8.page import difference, judge, markdown
from kdedge.card import ModelCard
from kdedge.data.folder import LabelledImages
from kdedge.errors import ModelError, RunError
from kdedge.preprocess import Preprocess
from tests.conftest import COLORS

SIDES = ("fp32", "kdedge", "ort", "openvino")
KNOWN = {"date": "2026-01-02T", "cpu": "chip", "cpu_flags": ["avx2"], "cores_usable": 2, "os": "os", "versions": {}}


def row(ort: float = 0.0, openvino: float = 0.0, kdedge_ms: float = 1.0) -> dict:
    times = {"fp32": 2.0, "kdedge": kdedge_ms, "ort": 1.0, "openvino": 0.5}
    layers = {"conv_int8": 3, "conv_float": 1, "linear_int8": 1, "linear_float": 0}
    file = {"how": "int8: mse, all layers in int8", "precision": "int8", "openvino_float": "bf16"}
    file |= {"bytes": dict.fromkeys(SIDES, 2_000_000), "seconds": dict.fromkeys(SIDES, 4.0)}
    file["layers"] = dict.fromkeys(("fp32", "kdedge", "ort"), layers)
    return {
        "network": "test/small",
        "size": 64,
        "accuracy": dict.fromkeys(SIDES, 0.75),
        "agreement": dict.fromkeys(SIDES, 0.99),
        "kl": dict.fromkeys(SIDES, 0.01),
        "points": {"ort": (ort, 0.2), "openvino": (openvino, 0.25)},
        "latency_ms": {"64": times, "224": dict.fromkeys(SIDES, 9.0)},
        "delivered": {"64": file, "224": file},
    }


def test_difference_is_that_of_paired_images():
    rng = np.random.default_rng(0)
    mine = rng.random(500) < 0.8
    other = np.where(rng.random(500) < 0.1, ~mine, mine)
    points, half = difference(mine, other)
    apart = mine.astype(float) - other.astype(float)
    assert points == pytest.approx(100 * apart.mean())
    assert half == pytest.approx(100 * 1.96 * apart.std() / 500**0.5)
    assert difference(mine, mine) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["yes", "yes", "yes"]),
        ({"ort": -0.05}, ["chance", "yes", "yes"]),
        ({"ort": -0.25}, ["no", "yes", "yes"]),
        ({"openvino": -0.3}, ["yes", "yes", "yes"]),
        ({"openvino": -0.5}, ["yes", "yes", "chance"]),
        ({"openvino": -0.6}, ["yes", "yes", "no"]),
        ({"kdedge_ms": 1.02}, ["yes", "yes", "yes"]),
        ({"kdedge_ms": 1.05}, ["yes", "no", "yes"]),
    ],
)
def test_judgement(given, expected):
    assert list(judge(row(**given)).values()) == expected


def test_what_was_not_measured_is_not_judged():
    without = row()
    del without["points"]["openvino"]
    assert list(judge(without)) == ["as accurate as onnxruntime", "as fast as onnxruntime"]


def test_page_shows_judgement_and_figures():
    data = {"rows": [row(ort=-1.5, openvino=-0.4)], "sides": dict.fromkeys(SIDES), "images": 2000, "calibration": 300}
    data |= {"openvino": "1.0", "openvino_float": "bf16", "load_average": [0.5], "conditions": KNOWN}
    text = markdown(data)
    assert "| test/small | **no** | yes | no, within chance |" in text
    assert "| test/small | 64 | 75.00 | 75.00 | 75.00 | 75.00 | -1.50 ± 0.20 | -0.40 ± 0.25 |" in text
    assert "| test/small | 99.00 | 99.00 | 99.00 | 0.0100 |" in text
    assert "| test/small | 64 | 2.00 | 1.00 | 1.00 | 0.50 | 2.00 | int8 |" in text
    assert "3 of 4" in text
    assert "run in bf16" in text


def test_arm_page_says_whether_the_report_held():
    layers = {"conv_int8": 3, "conv_float": 1, "linear_int8": 1, "linear_float": 0, "quantize": 2, "dequantize": 5}
    close = {"max_abs_error": 0.0123, "relative_error": 0.004, "cosine": 0.99991, "top1_agreement": 1.0}
    run = {"cpu": "cortex-a72", "layers": layers, "against": {"fp32 here": close}}
    run |= dict.fromkeys(("onnxruntime", "numpy", "python"), "1.0")
    report = {"conv_int8": 3, "conv_total": 4, "linear_int8": 1, "linear_total": 1}
    data = {"model": "m.onnx", "network": "n", "size": 64, "target": "arm64", "images": 5, "runs": [run]}
    data |= {"host_layers": {"as shipped": layers}, "fusion_report": report, "conditions": KNOWN}
    text = arm64_qemu.markdown(data)
    assert "| cortex-a72 | fp32 here | 0.0123 | 0.4% | 0.99991 | 100.0% |" in text
    assert "| cortex-a72, emulated | 3 of 4 | 1 of 1 | 2 | 5 |" in text
    assert "the same as on the emulated processors" in text
    report["conv_int8"] = 4
    assert "**not** what ran" in arm64_qemu.markdown(data)


def test_layers_are_counted_by_arithmetic(tmp_path):
    kinds = ["QLinearConv", "Conv", "FusedConv", "QGemm", "MatMul", "Relu", "QuantizeLinear"]
    nodes = [helper.make_node(kind, ["x"], [f"y{number}"]) for number, kind in enumerate(kinds)]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [value], [])), tmp_path / "g.onnx")
    expected = {"conv_int8": 1, "conv_float": 2, "linear_int8": 1, "linear_float": 1}
    assert arithmetic.layers(tmp_path / "g.onnx") == {**expected, "quantize": 1, "dequantize": 0, "nodes": 7}


def test_emulated_processors_differ_in_the_dot_product():
    text = {name: arm64.cpuinfo(name, cores=3) for name in arm64.CPUS}
    assert all(found.count("processor\t:") == found.count("CPU part") == 3 for found in text.values())
    assert "asimddp" not in text["cortex-a72"]
    assert "asimddp" in text["cortex-a76"]


def test_missing_openvino_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(ModelError, match=r"^nncf cannot be found; run pip install .* --peers ort\)\.$"):
        int8_export.main(["--data", str(tmp_path), "--out", str(tmp_path)])


@pytest.mark.parametrize("word", ["torchvision/resnet18", "torchvision/resnet18=", "other/net=runs/a"])
def test_runs_must_be_of_networks(word):
    with pytest.raises(RunError, match="NETWORK=DIR"):
        int8_export.given_runs([word], ["torchvision/resnet18"])


def test_images_keep_their_labels_when_thinned_out():
    images = LabelledImages(tuple(Path(str(i)) for i in range(10)), tuple(range(10)), ("a", "b"))
    found = int8_export.some_of(images, 4)
    assert found.labels == (0, 3, 6, 9)
    assert [path.name for path in found.paths] == ["0", "3", "6", "9"]
    assert len(int8_export.some_of(images, 99)) == 10


def test_finished_trainings_stay_and_interrupted_ones_go_on(tmp_path, monkeypatch):
    commands = []

    def run(command, **_):
        commands.append(command)
        return SimpleNamespace(returncode=0, stdout="Downloading\n{}\n")

    monkeypatch.setattr(train.subprocess, "run", run)
    place = tmp_path / "resnet18"
    place.mkdir()
    (place / "config.toml").touch()
    assert train.train("torchvision/resnet18", tmp_path, tmp_path / "no-data", 1.0) == place
    assert "--resume" in commands[0]
    assert json.loads((place / "result.json").read_text(encoding="utf-8")) == {}
    assert train.train("torchvision/resnet18", tmp_path, tmp_path / "no-data", 1.0) == place
    assert len(commands) == 1


@pytest.fixture(scope="module")
def small_run(color_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small network that was never trained, but tells the colours' images apart somehow."""
    import torch

    from kdedge.preprocess import decode
    from kdedge.training.batchnorm import reestimate
    from kdedge.training.checkpoint import save_weights
    from kdedge.training.students import build_student

    torch.set_num_threads(1)
    torch.manual_seed(0)
    pre = Preprocess(32)
    paths = sorted(str(path) for path in color_images.rglob("*.png"))
    pixels = pre.normalize(np.stack([pre.fit(decode(path)) for path in paths]))
    student = build_student("timm/test_resnet", len(COLORS), weights="random", size=32)
    reestimate(student, [torch.from_numpy(pixels)] * 3)
    run = tmp_path_factory.mktemp("runs") / "small"
    (run / "checkpoints").mkdir(parents=True)
    save_weights(run / "checkpoints" / "best.safetensors", student, {})
    card = ModelCard("small", tuple(COLORS), pre, student="timm/test_resnet")
    (run / "card.json").write_text(card.to_json(), encoding="utf-8")
    (run / "images.json").write_text(json.dumps({"trained": paths[::2], "heldout": paths[1::2]}), encoding="utf-8")
    for name in ("config.toml", "result.json"):
        (run / name).write_text("", encoding="utf-8")
    return run


def test_copy_of_a_run_may_have_another_size(small_run, tmp_path):
    copy = adopt(small_run, tmp_path / "copy", 48)
    assert (size_of(small_run), size_of(copy)) == (32, 48)
    (copy / "checkpoints" / "best.safetensors").unlink()
    with pytest.raises(RunError, match=r"no finished run \(checkpoints/best.safetensors is missing\)"):
        adopt(copy, tmp_path / "another")


def test_one_network_all_the_way(small_run, color_images, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "test").symlink_to(color_images)
    name = "timm/test_resnet"
    words = [
        "--data",
        data,
        "--out",
        tmp_path / "out",
        "--networks",
        name,
        "--run",
        f"{name}={small_run}",
        "--peers",
        "ort",
    ]
    words += ["--sizes", "--repeats", "2", "--threads", "1", "--results", tmp_path / "results"]
    page = int8_export.main([str(word) for word in words])
    found = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    (line,) = found["rows"]
    assert list(line["latency_ms"]) == ["32"]
    assert line["latency_ms"]["32"].keys() == {"fp32", "kdedge", "ort"}
    assert line["agreement"]["fp32"] == 1.0
    layers = line["delivered"]["32"]["layers"]
    assert layers["fp32"]["conv_int8"] == 0
    assert layers["ort"]["conv_int8"] > 0
    copy = tmp_path / "out" / "test_resnet"
    assert {"student.onnx", "ort.int8.onnx", "int8.json"} <= {path.name for path in copy.iterdir()}
    assert not (small_run / "student.onnx").exists()  # a run that was given is left alone
    assert name in page.read_text(encoding="utf-8")
