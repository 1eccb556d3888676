import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from torch import nn

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.errors import ExportError, RunError
from kdedge.export import int8 as int8_step
from kdedge.export import recipe, sources
from kdedge.export.graph import read_card
from kdedge.export.guard import Limits
from kdedge.export.outputs import Outputs
from kdedge.export.recipe import ExportOptions
from kdedge.export.result import ExportResult
from kdedge.export.sources import export_run, export_student
from kdedge.export.speed import Speed
from kdedge.export.targets import target_for
from kdedge.export.verify import Parity
from kdedge.files import sha256_of
from kdedge.runtime.classifier import Classifier

UNTIMED = Limits(min_speedup=0.0)
QUICK = ExportOptions(method="minmax", limits=UNTIMED)
FP32 = ExportOptions(int8=False)


def _made(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"kdedge-cache"}


@pytest.fixture(scope="module")
def exported(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> ExportResult:
    out = tmp_path_factory.mktemp("run")
    options = ExportOptions(limits=UNTIMED, target=target_for("x86", vnni=True))
    return export_student(small, card, out, calibration=pictures[:40], heldout=pictures[40:], options=options)


def test_files_carry_the_completed_card(exported: ExportResult, card: ModelCard, small: nn.Module) -> None:
    assert exported.int8
    fp32, int8 = read_card(exported.fp32.path), read_card(exported.int8.path)
    for found in (fp32, int8):
        assert (found.labels, found.preprocess, found.scores) == (card.labels, card.preprocess, card.scores)
        assert found.parameters == sum(parameter.numel() for parameter in small.parameters())
        assert found.target == "x86"
        assert found.outputs == {"logits": "logits", "embedding": "embedding"}
        assert found.input == {"name": "input", "dtype": "float32", "layout": "NCHW", "batch": 0}
        assert set(found.provenance["versions"]) == {"kdedge", "torch", "onnx", "onnxruntime", "timm"}
        assert (found.provenance["opset"], found.provenance["ir_version"]) == (18, 8)
    assert (fp32.precision, fp32.parity["reference"], fp32.quantization) == ("fp32", "torch", {})
    assert (int8.precision, int8.parity["reference"]) == ("int8", "student.onnx")
    assert int8.parity["fp32"] == fp32.parity
    assert set(int8.quantization["candidates"]) == {"minmax", "average", "percentile", "entropy", "mse"}
    assert (int8.quantization["images"], int8.quantization["int8_conv_share"]) == (40, 1.0)
    assert len(int8.quantization["calibration_key"]) == 64
    assert int8.fusion["conv_int8"] == 3
    assert (int8.guard["measured_by"], int8.guard["images"], int8.guard["max_drop_points"]) == ("agreement", 20, 1.0)
    assert int8.provenance["fp32_sha256"] == sha256_of(exported.fp32.path)
    assert exported.card == int8


def test_auto_keeps_the_calibration_of_least_divergence(exported: ExportResult) -> None:
    assert exported.quantized
    table = exported.quantized.choice.table
    assert table[exported.quantized.choice.method].kl == min(found.kl for found in table.values())
    assert exported.int8
    assert exported.int8.parity == table[exported.quantized.choice.method]


def test_result_tells_sizes_parity_and_rules(exported: ExportResult) -> None:
    assert exported.int8
    assert exported.missed == ""
    assert exported.best is exported.int8
    assert exported.fp32.bytes == exported.fp32.path.stat().st_size
    assert exported.int8.bytes == exported.int8.path.stat().st_size
    assert exported.fp32.parity.relative_error < 1e-5
    assert exported.fp32.parity.images == exported.int8.parity.images == 20
    assert exported.int8.parity.embedding_cosine is not None
    assert exported.int8.parity.embedding_cosine > 0.99
    value = json.loads(json.dumps(exported.to_dict(), allow_nan=False))
    assert value["fusion"]["share"] == 1.0
    assert all(rule["holds"] for rule in value["int8"]["rules"])
    assert value["guard"]["attempts"][0]["why_not"] == ""


def test_directory_holds_the_two_files_alone(exported: ExportResult) -> None:
    assert _made(exported.fp32.path.parent) == {"student.onnx", "student.int8.onnx"}


def test_the_device_gets_classes_and_embeddings(exported: ExportResult, pictures: NDArray[np.uint8]) -> None:
    assert exported.int8
    before, after = (Classifier(file.path) for file in (exported.fp32, exported.int8))
    embeddings = [model.embeddings(list(pictures[40:])) for model in (before, after)]
    assert embeddings[0].shape == (20, 16)
    cosines = (embeddings[0] * embeddings[1]).sum(1) / np.linalg.norm(embeddings, axis=2).prod(0)
    assert cosines.mean() == pytest.approx(exported.int8.parity.embedding_cosine, abs=1e-4)
    same = [a.label == b.label for a, b in zip(*(m.predict(list(pictures[40:])) for m in (before, after)), strict=True)]
    assert np.mean(same) == pytest.approx(exported.int8.parity.top1_agreement)


@pytest.mark.parametrize("name", ["arm64", "jetson", "web"])
def test_each_target_is_exported_under_its_name(
    name: str, small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    options = ExportOptions(method="minmax", target=target_for(name), float16=name == "jetson", limits=UNTIMED)
    result = export_student(small, card, tmp_path, calibration=pictures[:20], heldout=pictures[40:], options=options)
    kinds = ["", ".fp16", ".int8"] if name == "jetson" else ["", ".int8"]
    assert _made(tmp_path) == {f"student.{name}{kind}.onnx" for kind in kinds}
    assert result.int8
    card_of = read_card(result.int8.path)
    assert (card_of.target, card_of.input["batch"]) == (name, 1 if name == "jetson" else 0)
    assert result.int8.parity.cosine > 0.98
    assert len(Classifier(result.int8.path).predict(list(pictures[:3]))) == 3
    if result.fp16:
        assert read_card(result.fp16.path).precision == "fp16"
        assert result.fp16.bytes < result.fp32.bytes
        assert result.fp16.parity.top1_agreement == 1.0


def test_existing_file_is_refused_unless_overwritten(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    (tmp_path / "student.onnx").write_bytes(b"mine")
    (tmp_path / "student.int8.onnx").write_bytes(b"of another network")
    again: dict[str, Any] = {"calibration": None, "heldout": pictures[40:]}
    with pytest.raises(RunError, match=r"student\.onnx exists already; give --overwrite"):
        export_student(small, card, tmp_path, **again, options=FP32)
    assert (tmp_path / "student.onnx").read_bytes() == b"mine"
    result = export_student(small, card, tmp_path, **again, options=ExportOptions(int8=False, overwrite=True))
    assert read_card(result.fp32.path).precision == "fp32"
    assert result.to_dict()["int8"] is None
    assert (tmp_path / "student.int8.onnx").exists()  # it was not asked for


def test_a_file_that_misses_is_not_written(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    """And what an earlier export wrote under its name goes: it would be taken for this network's."""
    (tmp_path / "student.int8.onnx").write_bytes(b"of another network")
    options = ExportOptions(method="minmax", limits=Limits(max_drop=-1.0, min_speedup=0.0), overwrite=True)
    result = export_student(small, card, tmp_path, calibration=pictures[:20], heldout=pictures[40:], options=options)
    assert "at most -1 are allowed" in result.missed
    assert result.int8 is None
    assert result.best is result.fp32
    assert _made(tmp_path) == {"student.onnx"}
    assert read_card(tmp_path / "student.onnx").precision == "fp32"


def test_speed_is_measured_against_the_fp32_file(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_step, "speedup", lambda *_: Speed(0.5, 1.0, 2.0, 1))
    options = ExportOptions(method="minmax", target=target_for("auto"))
    out = {"calibration": pictures[:20], "heldout": pictures[40:]}
    result = export_student(small, card, tmp_path, **out, options=options)
    assert "0.50 times as fast as fp32 here, 1 times is asked" in result.missed
    other = "arm64" if target_for("auto").name == "x86" else "x86"
    options = ExportOptions(method="minmax", target=target_for(other))
    assert export_student(small, card, tmp_path, **out, options=options).missed == ""


@pytest.mark.parametrize(
    ("module", "step"),
    [(recipe, "check_fp32"), (recipe, "make_int8"), (recipe, "refuse_broken"), (recipe, "write_card")],
)
def test_failing_step_leaves_nothing(
    module: Any,
    step: str,
    small: nn.Module,
    card: ModelCard,
    pictures: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExportError("broken")

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(ExportError, match="broken"):
        export_student(small, card, tmp_path, calibration=pictures[:8], heldout=pictures[40:], options=QUICK)
    assert not _made(tmp_path)


def test_file_unlike_its_network_is_not_written(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = sources.torch_outputs(small, pictures[40:], card.preprocess)
    monkeypatch.setattr(sources, "torch_outputs", lambda *_: Outputs(right.logits * 1.01))
    with pytest.raises(ExportError, match="differs from the network it came from"):
        export_student(small, card, tmp_path, calibration=None, heldout=pictures[40:], options=FP32)
    assert not _made(tmp_path)


def test_mistakes_are_found_before_any_work(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "export_fp32", lambda *_, **__: pytest.fail("work was begun"))
    images: dict[str, Any] = {"calibration": pictures[:8], "heldout": pictures[40:]}
    with pytest.raises(ExportError, match="calibration 'x'"):
        export_student(small, card, tmp_path, **images, options=ExportOptions(method="x"))
    with pytest.raises(ExportError, match="--float16 is for GPUs; target x86"):
        export_student(small, card, tmp_path, **images, options=ExportOptions(float16=True, target=target_for("x86")))
    with pytest.raises(ExportError, match="held-out images"):
        export_student(small, card, tmp_path, calibration=None, heldout=pictures[:0], options=FP32)
    with pytest.raises(ExportError, match="needs calibration images"):
        export_student(small, card, tmp_path, calibration=pictures[:0], heldout=pictures[40:])


def test_labels_must_fit_the_network(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="4 outputs, the card 2 labels"):
        export_student(small, card.with_(labels=("a", "b")), tmp_path, calibration=None, heldout=pictures, options=FP32)


def _run(tmp_path: Path, pictures: NDArray[np.uint8], **more: Any) -> SimpleNamespace:
    import cv2

    paths = []
    for number, picture in enumerate(pictures):
        paths.append(tmp_path / "images" / f"{number:03}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        cv2.imwrite(str(paths[-1]), picture[..., ::-1])
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(b"weights")
    found = {"path": run, "calibration": paths, "heldout": [], "heldout_labels": [], "calibration_labels": []}
    return SimpleNamespace(**{**found, "checkpoint": run / "best.safetensors", **more})


def test_run_is_exported_in_place(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = _run(tmp_path, pictures[:20], card=card, student=small)
    monkeypatch.setattr(sources, "load_run", lambda _: loaded)
    run = loaded.path
    result = export_run(run, QUICK)
    saved = ModelCard.from_json((run / "card.json").read_text(encoding="utf-8"))
    assert saved == result.card
    assert saved.quantization["images"] == 16  # every fifth is kept back, for want of held-out ones
    assert result.fp32.parity.images == 4
    assert saved.provenance["checkpoint_sha256"] == sha256_of(run / "best.safetensors")
    assert len(saved.provenance["data_sha256"]) == 64
    with pytest.raises(RunError, match="--overwrite"):
        export_run(run)
    metadata = onnx.load(run / "student.int8.onnx").metadata_props
    assert [entry.key for entry in metadata] == [METADATA_KEY]
    before = (run / "card.json").read_bytes()
    out = tmp_path / "elsewhere" / "a.onnx"
    export_run(run, ExportOptions(method="minmax", limits=UNTIMED, out=out))
    assert {path.name for path in out.parent.iterdir()} == {"a.onnx", "a.fp32.onnx"}
    assert (run / "card.json").read_bytes() == before


def test_labelled_images_come_first(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = _run(tmp_path, pictures[:30], card=card, student=small)
    loaded.calibration, loaded.heldout = loaded.calibration[:10], loaded.calibration[10:]
    loaded.heldout_labels = [3 if row % 4 == 0 else -1 for row in range(20)]
    training, unseen, labels = sources._images(loaded)
    assert labels == [3] * 5 + [-1] * 15
    assert [path.name for path in unseen[:3]] == ["010.png", "014.png", "018.png"]
    assert not set(training) & set(unseen)
    monkeypatch.setattr(sources, "_HELDOUT_IMAGES", 8)
    assert sources._images(loaded)[2] == [3] * 5 + [-1] * 3


def test_missing_run_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run"):
        export_run(tmp_path / "nowhere")


def test_parity_travels_in_the_card(exported: ExportResult) -> None:
    carried = {key: value for key, value in read_card(exported.fp32.path).parity.items() if key != "reference"}
    assert Parity(**carried) == exported.fp32.parity


def test_exported_file_works_elsewhere(exported: ExportResult, tmp_path: Path) -> None:
    assert exported.int8
    moved = shutil.copy(exported.int8.path, tmp_path / "alone.onnx")
    assert read_card(Path(moved)).labels == ("ant", "bee", "cat", "dog")
