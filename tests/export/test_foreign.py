"""Classifiers written by other exporters, brought into kdedge's form."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
import torchvision
from numpy.typing import NDArray
from onnx import TensorProto
from scipy.special import softmax
from torch import nn

from kdedge.export.foreign import Foreign, read_foreign
from kdedge.export.quiet import quiet
from kdedge.training.batchnorm import reestimate
from tests.export.foreign_networks import SIZE, network, node, pictures, run, write

CLOSE = 1e-4


def check_form(found: Foreign, outputs: list[str]) -> None:
    """Input, outputs and file as kdedge writes them itself."""
    graph = found.model.graph
    onnx.checker.check_model(found.model, full_check=True)
    assert [value.name for value in graph.input] == ["input"]
    kind = graph.input[0].type.tensor_type
    assert kind.elem_type == TensorProto.FLOAT
    assert [dim.dim_value for dim in kind.shape.dim] == [found.batch, 3, found.size, found.size]
    assert [value.name for value in graph.output] == outputs
    widths = [value.type.tensor_type.shape.dim[1].dim_value for value in graph.output]
    assert widths == [found.classes, found.dim][: len(outputs)]
    assert 13 <= found.model.opset_import[0].version <= 21
    assert len(found.model.opset_import) == 1
    names = [item.name for item in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert not {"Constant", "Identity", "Dropout"} & {item.op_type for item in graph.node}


def near(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    assert a.shape == b.shape
    return bool(np.abs(a - b).max() <= CLOSE * np.abs(b).max())


def seeded(make: type[nn.Module] | object, size: int, **options: object) -> nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model: nn.Module = make(**options)  # type: ignore[operator]
    if any(isinstance(part, nn.BatchNorm2d) for part in model.modules()):
        reestimate(model, [torch.randn(8, 3, size, size)])
    return model.eval()


def test_a_torchvision_network_by_the_dynamo_exporter(tmp_path: Path) -> None:
    model = seeded(torchvision.models.squeezenet1_1, 64, num_classes=10)
    with quiet():
        program = torch.onnx.export(
            model,
            (torch.zeros(2, 3, 64, 64),),
            dynamo=True,
            opset_version=18,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        assert program is not None
        program.save(tmp_path / "net.onnx")
    found = read_foreign(tmp_path / "net.onnx")
    check_form(found, ["logits", "embedding"])
    assert (found.size, found.classes, found.dim, found.role, found.batch) == (64, 10, 512, "logits", 0)
    assert found.producer.startswith("pytorch")
    images = pictures(5, 64)
    with torch.inference_mode():
        features = model.features(torch.from_numpy(images))  # its classifier is a 1 x 1 convolution
        expected = model(torch.from_numpy(images)).numpy()
    logits, embedding = run(found.model, images)
    assert near(logits, expected)
    assert near(embedding, features.mean((2, 3)).numpy())


def test_a_timm_network_by_the_torchscript_exporter(tmp_path: Path) -> None:
    model = seeded(timm.create_model, 64, model_name="lcnet_050", num_classes=10)
    path = tmp_path / "net.onnx"
    with quiet():
        torch.onnx.export(model, (torch.zeros(1, 3, 64, 64),), str(path), dynamo=False, opset_version=11)
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    found = read_foreign(path)
    check_form(found, ["logits", "embedding"])
    assert (found.size, found.classes, found.dim, found.opset, found.batch) == (64, 10, 1280, 11, 0)
    assert {"operator set 11 became 18", "the batch of 1 became free"} <= set(found.changes)
    images = pictures(5, 64)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
        penultimate = model.forward_head(model.forward_features(torch.from_numpy(images)), pre_logits=True).numpy()
    logits, embedding = run(found.model, images)
    assert near(logits, expected)
    assert near(embedding, penultimate)


def test_a_channel_shuffle_of_one_image_becomes_free(tmp_path: Path) -> None:
    model = seeded(torchvision.models.shufflenet_v2_x0_5, 64, num_classes=10)
    path = tmp_path / "net.onnx"
    with quiet():
        torch.onnx.export(model, (torch.zeros(1, 3, 64, 64),), str(path), dynamo=False, opset_version=13)
    images = pictures(3, 64)
    found = read_foreign(path)
    assert found.batch == 0
    with torch.inference_mode():
        assert near(run(found.model, images)[0], model(torch.from_numpy(images)).numpy())


@pytest.fixture
def keras_like(tmp_path: Path) -> Path:
    """Channels last, scaled inside, a MatMul and an Add at the end, and a Softmax: as tf2onnx writes a Keras network."""
    nodes = [
        node("Sub", "x mean", "x0"),
        node("Transpose", "x0", "x1", perm=[0, 3, 1, 2]),
        node("Conv", "x1 k kb", "c", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Relu", "c", "r"),
        node("ReduceMean", "r", "f", axes=[2, 3], keepdims=0),
        node("MatMul", "f w", "m"),
        node("Add", "m wb", "logits"),  # a name that kdedge wants, too
        node("Softmax", "logits", "input", axis=-1),  # and another, in the wrong place
    ]
    mean = np.array([0.4, 0.5, 0.6], np.float32)
    return write(tmp_path, network(nodes, ["input"], shape=("n", SIZE, SIZE, 3), more={"mean": mean}, opset=13))


def test_a_keras_network(keras_like: Path) -> None:
    found = read_foreign(keras_like)
    check_form(found, ["logits", "embedding"])
    assert (found.size, found.classes, found.dim, found.embedding, found.role) == (SIZE, 4, 8, "f", "logits")
    assert found.producer == "elsewhere"
    assert {
        "the input (batch, S, S, 3) became (batch, 3, S, S)",
        "the Softmax at the end was cut off: the file gives logits",
        "the tensor f is given as embedding",
    } <= set(found.changes)
    images = pictures()
    probabilities, feature = run(keras_like, images.transpose(0, 2, 3, 1).copy(), ["input", "f"])
    logits, embedding = run(found.model, images)
    assert near(softmax(logits, 1), probabilities)
    assert near(embedding, feature)


def test_two_transposes_that_undo_one_another_are_gone(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", "x", "x1", perm=[0, 3, 1, 2]),
        node("Conv", "x1 k kb", "c", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w wb", "g"),
    ]
    path = write(tmp_path, network(nodes, shape=(1, SIZE, SIZE, 3)))
    found = read_foreign(path)
    assert "Transpose" not in {item.op_type for item in found.model.graph.node}
    images = pictures()
    expected = np.concatenate([run(path, image[None].transpose(0, 2, 3, 1).copy())[0] for image in images])
    assert near(run(found.model, images)[0], expected)


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_a_network_of_2018(name: str) -> None:
    """Caffe2's exporter, in the files that onnx ships: opset 9, one image, weights among the inputs, Softmax at the end."""
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip("this onnx ships no networks")
    found = read_foreign(path)
    check_form(found, ["logits", "embedding"])
    assert (found.size, found.classes, found.batch, found.opset, found.role) == (224, 1000, 0, 9, "logits")
    images = pictures(2, 224)
    expected = np.concatenate([run(path, image[None])[0] for image in images]).reshape(2, 1000)
    assert near(softmax(run(found.model, images)[0], 1), expected)
