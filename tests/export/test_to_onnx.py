from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from kdedge.errors import ExportError
from kdedge.export.session import cpu_session
from kdedge.export.to_onnx import export_fp32
from tests.export.conftest import SIZE


def test_file_format(small_onnx: Path) -> None:
    model = onnx.load(small_onnx)
    assert model.ir_version == 8
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == ["logits", "embedding"]
    assert [dim.dim_param or dim.dim_value for dim in model.graph.output[1].type.tensor_type.shape.dim] == ["batch", 16]
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_param == "batch"
    assert [dim.dim_value for dim in shape[1:]] == [3, SIZE, SIZE]


def test_graph_is_clean(small_onnx: Path) -> None:
    kinds = [node.op_type for node in onnx.load(small_onnx).graph.node]
    assert "ReduceMean" not in kinds
    assert "BatchNormalization" not in kinds
    assert kinds.count("GlobalAveragePool") == 1


def test_nothing_of_the_exporting_machine_remains(small_onnx: Path) -> None:
    data = small_onnx.read_bytes()
    for trace in (b"stack_trace", b"File ", b".py", str(Path.cwd()).encode()):
        assert trace not in data


@pytest.mark.parametrize("batch", [1, 5])
def test_logits_equal_torch_at_any_batch(small: nn.Module, small_onnx: Path, batch: int) -> None:
    images = torch.randn(batch, 3, SIZE, SIZE)
    with torch.inference_mode():
        wanted = small(images).numpy()
    found = cpu_session(small_onnx).run(None, {"input": images.numpy()})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_embedding_is_the_trunks(tmp_path: Path) -> None:
    from kdedge.export.inference import onnx_outputs, torch_outputs
    from kdedge.export.verify import compare
    from kdedge.preprocess import Preprocess
    from kdedge.training.students import build_student

    torch.manual_seed(0)
    student = build_student("timm/resnet10t", 5, weights="random", size=SIZE)
    export_fp32(student, SIZE, tmp_path / "x.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    pre = Preprocess(SIZE)
    wanted, found = torch_outputs(student, images, pre), onnx_outputs(tmp_path / "x.onnx", images, pre)
    assert wanted.embedding is not None
    assert found.embedding is not None
    np.testing.assert_allclose(found.embedding, wanted.embedding, rtol=1e-3, atol=1e-4)
    assert compare(wanted, found).embedding_cosine == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("opset", "ir_version", "batch"), [(14, 7, 0), (17, 8, 1), (18, 9, 3), (20, 10, 0)])
def test_format_is_what_was_asked_for(
    small: nn.Module, tmp_path: Path, opset: int, ir_version: int, batch: int
) -> None:
    from kdedge.export.inference import onnx_outputs, torch_outputs
    from kdedge.preprocess import Preprocess

    export_fp32(small, SIZE, tmp_path / "x.onnx", opset=opset, ir_version=ir_version, batch=batch)
    model = onnx.load(tmp_path / "x.onnx")
    assert ([item.version for item in model.opset_import], model.ir_version) == ([opset], ir_version)
    shapes = [value.type.tensor_type.shape.dim[0] for value in (*model.graph.input, *model.graph.output)]
    assert {dim.dim_value for dim in shapes} == {batch}
    images = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    found = onnx_outputs(tmp_path / "x.onnx", images, Preprocess(SIZE))  # 5 is no multiple of 3
    np.testing.assert_allclose(
        found.logits, torch_outputs(small, images, Preprocess(SIZE)).logits, rtol=1e-4, atol=1e-5
    )


def test_an_operator_without_onnx_form_is_named(tmp_path: Path) -> None:
    class Spectral(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x.mean(1)).real

    with pytest.raises(ExportError, match=r"operator aten\.linalg_eig\w* \(node linalg_eig\w*\) has no ONNX form"):
        export_fp32(Spectral(), SIZE, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_model_is_left_alone(small: nn.Module, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in small.state_dict().items()}
    small.train()
    try:
        export_fp32(small, SIZE, tmp_path / "x.onnx")
        assert small.training
    finally:
        small.eval()
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())


def test_export_is_quiet(small: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_fp32(small, SIZE, tmp_path / "x.onnx")
    assert capfd.readouterr() == ("", "")


def test_parallel_branches_are_merged(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model("mobileone_s0", num_classes=3).eval()
    export_fp32(model, SIZE, tmp_path / "x.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "x.onnx").graph.node]
    branches = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert kinds.count("Conv") < branches / 2
    assert "Add" not in kinds


def test_untraceable_network_is_one_sentence(tmp_path: Path) -> None:
    class Stubborn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(ExportError, match="Stubborn cannot be exported to ONNX at 32 px"):
        export_fp32(Stubborn(), SIZE, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
