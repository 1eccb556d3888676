"""Generators from files, and what no generator may do."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from kdedge.errors import DataError, ModelError
from kdedge.training.generator_file import BATCH, GeneratorInput, load_generator


class Plain(nn.Module):
    """Latents (B, 6) to images (B, 3, 4, 4) in -1 to 1."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(6, 48)

    def forward(self, z):
        return torch.tanh(self.linear(z)).reshape(-1, 3, 4, 4)


def wanted(seeds):
    z = np.concatenate([np.random.RandomState(seed).randn(1, 6) for seed in seeds])
    with torch.inference_mode():
        pixels = Plain()(torch.from_numpy(z).float()).numpy()
    return (pixels.transpose(0, 2, 3, 1) + 1) * 127.5


def script(tmp_path, module, *shown):
    path = tmp_path / "net.pt"
    torch.jit.trace(module.eval(), shown or (torch.zeros(2, 6),), check_trace=False).save(str(path))
    return path


def exported(tmp_path):
    batch = {"z": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(Plain(), (torch.zeros(3, 6),), dynamic_shapes=batch), tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def onnx_file(tmp_path):
    plain = Plain()
    tensors = {"w": plain.linear.weight.detach().numpy(), "b": plain.linear.bias.detach().numpy()}
    nodes = [
        helper.make_node("Gemm", ["z", "w", "b"], ["flat"], transB=1),
        helper.make_node("Tanh", ["flat"], ["squashed"]),
        helper.make_node("Reshape", ["squashed", "shape"], ["images"]),
    ]
    values = [numpy_helper.from_array(value, key) for key, value in tensors.items()]
    values.append(numpy_helper.from_array(np.array([-1, 3, 4, 4]), "shape"))
    given = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 6])]
    made = [helper.make_tensor_value_info("images", TensorProto.FLOAT, None)]
    model = helper.make_model(
        helper.make_graph(nodes, "generator", given, made, values),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.save(model, str(tmp_path / "net.onnx"))
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("make", [lambda path: script(path, Plain()), exported, onnx_file])
def test_a_seed_is_one_image_in_every_format(tmp_path, make):
    given = GeneratorInput(latent=(6,)) if make is not exported and make is not onnx_file else None
    images, _ = load_generator(make(tmp_path), given)
    found = images([7, 3, 102399])
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, wanted([7, 3, 102399]), atol=0.51)
    np.testing.assert_array_equal(images([3])[0], found[1])
    assert len(images(range(BATCH + 5))) == BATCH + 5


class Conditional(nn.Module):
    """The class and the truncation are all there is to see."""

    def forward(self, z, label, truncation):
        shade = (label * torch.arange(label.shape[1])).sum(1) / 4 * truncation
        return (shade - 0.9 + 0 * z.sum(1)).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def test_class_and_truncation_reach_the_network(tmp_path):
    path = script(tmp_path, Conditional(), torch.zeros(2, 6), torch.zeros(2, 5), torch.tensor(1.0))
    images, digest = load_generator(path, GeneratorInput((6,), truncation=0.5, label=4, classes=5))
    assert images([0])[0, 0, 0, 0] == round((4 / 4 * 0.5 - 0.9 + 1) * 127.5)
    other = load_generator(path, GeneratorInput((6,), truncation=0.5, label=3, classes=5))
    assert other[1] != digest
    for given, words in (
        (GeneratorInput((6,)), "give --classes"),
        (GeneratorInput((6,), classes=5), "choose --class 0 to 4"),
        (GeneratorInput((6,), classes=5, label=5), "--class is 5"),
    ):
        with pytest.raises(ModelError, match=words):
            load_generator(path, given)


class Broken(Plain):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, z):
        return self.change(super().forward(z))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x / 0 * 0, "not finite"),
        (lambda x: x * 127.5 + 127.5, "pixels lie between .* not in -1:1; --values"),
        (lambda x: x / 2 + 0.5, "pixels lie between"),
        (lambda x: x.permute(0, 2, 3, 1), "images \\(32, 3, height, width\\) were expected"),
        (lambda x: x[:, 0], "where images"),
        (lambda x: x + torch.rand(3, 4, 4), "changes from call to call"),
        (lambda x: x - x.mean(0) + x[:1] * 0, "with the other seeds of a batch"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, change, words):
    with pytest.raises(ModelError, match=words):
        load_generator(script(tmp_path, Broken(change)), GeneratorInput((6,)))


@pytest.mark.parametrize(("values", "scale"), [("0:1", 1.0), ("0:255", 255.0)])
def test_other_ranges(tmp_path, values, scale):
    path = script(tmp_path, Broken(lambda x: (x / 2 + 0.5) * scale))
    images, _ = load_generator(path, GeneratorInput((6,), values))
    np.testing.assert_allclose(images([7]), wanted([7]), atol=0.51)


class Other(nn.Module):
    def forward(self, z, mood):
        return torch.zeros(len(z), 3, 4, 4) + mood.sum()


def test_files_that_are_no_generators(tmp_path):
    with pytest.raises(ModelError, match="no such generator"):
        load_generator(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(ModelError, match="TorchScript"):
        load_generator(tmp_path / "text.pt")
    with pytest.raises(ModelError, match="input 'mood'"):
        load_generator(script(tmp_path, Other(), torch.zeros(2, 6), torch.zeros(2)), GeneratorInput((6,)))
    plain = script(tmp_path, Plain())
    with pytest.raises(ModelError, match=r"latents of shape \(32, 512\)"):
        load_generator(plain)
    for given, words in (
        (GeneratorInput((6,), truncation=0.5), "--truncation"),
        (GeneratorInput((6,), label=1), "--class"),
    ):
        with pytest.raises(ModelError, match=f"no input for {words}"):
            load_generator(plain, given)
    for wrong in ({"values": "1:2"}, {"latent": ()}, {"latent": (0,)}, {"label": -1}):
        with pytest.raises(DataError):
            GeneratorInput(**wrong)
