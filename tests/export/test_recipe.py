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
from kdedge.export import recipe
from kdedge.export.graph import read_card
from kdedge.export.recipe import ExportResult, export_run, export_student
from kdedge.export.verify import Parity
from kdedge.files import sha256_of


@pytest.fixture(scope="module")
def exported(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> ExportResult:
    out = tmp_path_factory.mktemp("run")
    return export_student(small, card, out, calibration=pictures[:40], heldout=pictures[40:], method="minmax")


def test_files_carry_the_completed_card(exported: ExportResult, card: ModelCard, small: nn.Module) -> None:
    assert exported.int8_path
    fp32, int8 = read_card(exported.fp32_path), read_card(exported.int8_path)
    for found in (fp32, int8):
        assert (found.labels, found.preprocess, found.scores) == (card.labels, card.preprocess, card.scores)
        assert found.parameters == sum(parameter.numel() for parameter in small.parameters())
        assert found.target == "x86"
        assert set(found.provenance["versions"]) == {"kdedge", "torch", "onnx", "onnxruntime", "timm"}
        assert (found.provenance["opset"], found.provenance["ir_version"]) == (18, 8)
    assert (fp32.precision, fp32.parity["reference"], fp32.quantization) == ("fp32", "torch", {})
    assert (int8.precision, int8.parity["reference"]) == ("int8", "student.onnx")
    assert int8.quantization["method"] == "minmax"
    assert int8.quantization["images"] == 40
    assert int8.quantization["int8_conv_share"] == 1.0
    assert int8.provenance["fp32_sha256"] == sha256_of(exported.fp32_path)
    assert exported.card == int8


def test_result_tells_sizes_and_parity(exported: ExportResult) -> None:
    assert exported.int8_path
    assert exported.parity_int8
    assert exported.fp32_bytes == exported.fp32_path.stat().st_size
    assert exported.int8_bytes == exported.int8_path.stat().st_size
    assert exported.parity_fp32.relative_error < 1e-5
    assert exported.parity_fp32.images == exported.parity_int8.images == 20
    assert exported.parity_int8.cosine > 0.99
    value = json.loads(json.dumps(exported.to_dict(), allow_nan=False))
    assert value["int8"]["fusion"]["share"] == 1.0


def test_directory_holds_the_two_files_alone(exported: ExportResult) -> None:
    assert {path.name for path in exported.fp32_path.parent.iterdir()} == {"student.onnx", "student.int8.onnx"}


def test_existing_file_is_refused_unless_overwritten(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    (tmp_path / "student.onnx").write_bytes(b"mine")
    again: dict[str, Any] = {"calibration": None, "heldout": pictures[40:], "int8": False}
    with pytest.raises(RunError, match=r"student\.onnx exists already; give --overwrite"):
        export_student(small, card, tmp_path, **again)
    assert (tmp_path / "student.onnx").read_bytes() == b"mine"
    result = export_student(small, card, tmp_path, **again, overwrite=True)
    assert read_card(result.fp32_path).precision == "fp32"
    assert result.to_dict()["int8"] is None
    assert not (tmp_path / "student.int8.onnx").exists()


@pytest.mark.parametrize("step", ["quantize_int8", "int8_share", "check_fp32"])
def test_failing_step_leaves_nothing(
    step: str,
    small: nn.Module,
    card: ModelCard,
    pictures: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExportError("broken")

    monkeypatch.setattr(recipe, step, fail)
    with pytest.raises(ExportError, match="broken"):
        export_student(small, card, tmp_path, calibration=pictures[:8], heldout=pictures[40:], method="minmax")
    assert not list(tmp_path.iterdir())


def test_file_unlike_its_network_is_not_written(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = recipe.torch_logits(small, pictures[40:], card.preprocess)
    monkeypatch.setattr(recipe, "torch_logits", lambda *_: right * 1.01)
    with pytest.raises(ExportError, match="differs from the network it came from"):
        export_student(small, card, tmp_path, calibration=None, heldout=pictures[40:], int8=False)
    assert not list(tmp_path.iterdir())


def test_mistakes_are_found_before_any_work(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "export_fp32", lambda *_: pytest.fail("work was begun"))
    images: dict[str, Any] = {"calibration": pictures[:8], "heldout": pictures[40:]}
    with pytest.raises(ExportError, match="target 'web'"):
        export_student(small, card, tmp_path, **images, target="web")
    with pytest.raises(ExportError, match="calibration 'x'"):
        export_student(small, card, tmp_path, **images, method="x")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="held-out images"):
        export_student(small, card, tmp_path, calibration=None, heldout=pictures[:0])


def test_labels_must_fit_the_network(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="4 outputs, the card 2 labels"):
        export_student(small, card.with_(labels=("a", "b")), tmp_path, calibration=None, heldout=pictures, int8=False)


def test_progress_never_falls_and_ends(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    export_student(
        small,
        card,
        tmp_path,
        calibration=pictures[:20],
        heldout=pictures[40:],
        method="minmax",
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == sorted(told)
    assert told[-1] == (100, 100)


def test_run_is_exported_in_place(
    small: nn.Module, card: ModelCard, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    paths = []
    for number, picture in enumerate(pictures[:20]):
        paths.append(tmp_path / "images" / f"{number:02}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        cv2.imwrite(str(paths[-1]), picture[..., ::-1])
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(b"weights")
    loaded = SimpleNamespace(
        path=run, card=card, student=small, calibration=paths, heldout=[], checkpoint=run / "best.safetensors"
    )
    monkeypatch.setattr(recipe, "load_run", lambda _: loaded)
    result = export_run(run, method="minmax")
    saved = ModelCard.from_json((run / "card.json").read_text(encoding="utf-8"))
    assert saved == result.card
    assert saved.quantization["images"] == 16  # every fifth is kept back, for want of held-out ones
    assert result.parity_fp32.images == 4
    assert saved.provenance["checkpoint_sha256"] == sha256_of(run / "best.safetensors")
    with pytest.raises(RunError, match="--overwrite"):
        export_run(run)
    metadata = onnx.load(run / "student.int8.onnx").metadata_props
    assert [entry.key for entry in metadata] == [METADATA_KEY]


def test_missing_run_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run"):
        export_run(tmp_path / "nowhere")


def test_parity_travels_in_the_card(exported: ExportResult) -> None:
    carried = {key: value for key, value in read_card(exported.fp32_path).parity.items() if key != "reference"}
    assert Parity(**carried) == exported.parity_fp32


def test_exported_file_works_elsewhere(exported: ExportResult, tmp_path: Path) -> None:
    assert exported.int8_path
    moved = shutil.copy(exported.int8_path, tmp_path / "alone.onnx")
    assert read_card(Path(moved)).labels == ("ant", "bee", "cat", "dog")
