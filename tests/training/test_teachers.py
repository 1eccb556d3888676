import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from kdedge.errors import ModelError
from kdedge.preprocess import Preprocess
from kdedge.training.students import build_trunk
from kdedge.training.teachers import TeacherInput, build_teacher
from tests.training.conftest import DIM, PREPROCESS, SIZE, pictures, teacher_graph, write_teacher

PLAIN = TeacherInput(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
IMAGES = pictures(5)


def by_hand(images, output="embedding", mean=127.5, std=64.0, bgr=False):
    """Run the test teacher on inputs prepared in float64."""
    graph = teacher_graph()
    if output != "embedding":
        graph.graph.output.append(helper.make_empty_tensor_value_info(output))
    x = (images.astype(np.float64) - mean) / std
    x = x[..., ::-1] if bgr else x
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([output], {"image": np.ascontiguousarray(x.transpose(0, 3, 1, 2), dtype=np.float32)})[0]


class TestOnnx:
    def test_its_own_card_says_how(self, teacher_file):
        teacher = build_teacher(f"onnx:{teacher_file}")
        assert teacher.preprocess == PREPROCESS
        assert teacher.dim == DIM
        found = teacher.embed(IMAGES)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, by_hand(IMAGES), rtol=1e-4, atol=1e-4)

    def test_without_card_it_must_be_said(self, tmp_path):
        path = write_teacher(tmp_path / "bare.onnx")
        for given in (None, TeacherInput(mean=(0.0, 0.0, 0.0)), TeacherInput(std=(1.0, 1.0, 1.0))):
            with pytest.raises(ModelError, match="--teacher-mean and --teacher-std"):
                build_teacher(f"onnx:{path}", given=given)
        teacher = build_teacher(f"onnx:{path}", given=PLAIN)
        assert teacher.preprocess == Preprocess(SIZE, (0.0,) * 3, (1.0,) * 3)
        np.testing.assert_allclose(teacher.embed(IMAGES), by_hand(IMAGES, mean=0, std=1), rtol=1e-4, atol=1e-3)

    def test_what_is_given_overrides_the_card(self, teacher_file):
        teacher = build_teacher(f"onnx:{teacher_file}", given=TeacherInput(mean=(0.0, 0.0, 0.0)))
        assert teacher.preprocess == Preprocess(SIZE, (0.0,) * 3, PREPROCESS.std)

    def test_rgb_and_bgr(self, teacher_file):
        rgb = build_teacher(f"onnx:{teacher_file}")
        bgr = build_teacher(f"onnx:{teacher_file}", given=TeacherInput(color="bgr"))
        np.testing.assert_allclose(bgr.embed(IMAGES), by_hand(IMAGES, bgr=True), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(bgr.embed(IMAGES[..., ::-1]), rgb.embed(IMAGES), rtol=1e-5, atol=1e-5)
        assert not np.allclose(bgr.embed(IMAGES), rgb.embed(IMAGES), atol=1e-2)

    def test_an_unknown_colour_order(self, teacher_file):
        with pytest.raises(ModelError, match="'gbr'"):
            build_teacher(f"onnx:{teacher_file}", given=TeacherInput(color="gbr"))

    @pytest.mark.parametrize(("tensor", "dim"), [("flat", 8), ("pooled", 8), ("maps", 8), ("embedding", DIM)])
    def test_any_tensor_of_the_graph(self, teacher_file, tensor, dim):
        teacher = build_teacher(f"onnx:{teacher_file}:{tensor}")
        assert teacher.dim == dim
        wanted = by_hand(IMAGES, tensor)
        wanted = wanted.mean((2, 3)) if wanted.ndim == 4 else wanted  # feature maps are averaged
        np.testing.assert_allclose(teacher.embed(IMAGES), wanted, rtol=1e-4, atol=1e-4)

    def test_an_unknown_tensor(self, teacher_file):
        with pytest.raises(ModelError, match=r"no tensor 'penultimate' in the graph; its last ones are .*flat"):
            build_teacher(f"onnx:{teacher_file}:penultimate")

    def test_a_colon_in_the_path(self, tmp_path):
        path = write_teacher(tmp_path / "a:b" / "teacher.onnx", preprocess=PREPROCESS)
        assert build_teacher(f"onnx:{path}").dim == DIM
        assert build_teacher(f"onnx:{path}:flat").dim == 8

    def test_files_that_are_none(self, tmp_path):
        with pytest.raises(ModelError, match="no such ONNX file"):
            build_teacher(f"onnx:{tmp_path / 'absent.onnx'}", given=PLAIN)
        for number, data in enumerate((b"", b"this is text", onnx.ModelProto().SerializeToString())):
            path = tmp_path / f"{number}.onnx"
            path.write_bytes(data)
            with pytest.raises(ModelError, match=f"{number}.onnx") as caught:
                build_teacher(f"onnx:{path}", given=PLAIN)
            assert "\n" not in str(caught.value)

    def test_not_an_image_network(self, tmp_path):
        graph = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 7])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 7])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, str(tmp_path / "vector.onnx"))
        with pytest.raises(ModelError, match=r"one input of shape \(B, 3, H, W\) was expected"):
            build_teacher(f"onnx:{tmp_path / 'vector.onnx'}", given=PLAIN)

    def test_a_free_input_size_must_be_said(self, tmp_path):
        path = write_teacher(tmp_path / "free.onnx", size="side")
        with pytest.raises(ModelError, match="--teacher-size"):
            build_teacher(f"onnx:{path}", given=PLAIN)
        sized = TeacherInput(24, PLAIN.mean, PLAIN.std)
        assert build_teacher(f"onnx:{path}", given=sized).preprocess.size == 24

    def test_a_size_it_does_not_take(self, teacher_file):
        with pytest.raises(ModelError, match="cannot run"):
            build_teacher(f"onnx:{teacher_file}", given=TeacherInput(size=24))

    def test_the_fingerprint_knows_weights_output_and_preprocessing(self, teacher_file, tmp_path):
        name = f"onnx:{teacher_file}"
        first = build_teacher(name).fingerprint()
        assert build_teacher(name).fingerprint() == first
        others = [
            build_teacher(f"onnx:{write_teacher(tmp_path / 'o.onnx', 1, PREPROCESS)}"),
            build_teacher(f"{name}:flat"),
            build_teacher(name, given=TeacherInput(color="bgr")),
            build_teacher(name, given=TeacherInput(std=(1.0, 1.0, 1.0))),
        ]
        assert len({first, *(other.fingerprint() for other in others)}) == 5


class TestTorch:
    def build(self, seed=0, **given):
        torch.manual_seed(seed)
        said = []
        teacher = build_teacher("timm/test_resnet", "random", TeacherInput(size=32, **given), said.append)
        assert "RANDOM" in said[0]
        return teacher

    def test_activations_are_those_of_the_trunk_in_eval_mode(self):
        teacher = self.build()
        torch.manual_seed(0)
        trunk, dim = build_trunk("timm/test_resnet", 32)
        images = pictures(4, 32)
        with torch.no_grad():
            wanted = trunk.eval()(torch.from_numpy(teacher.preprocess.normalize(images))).numpy()
        found = teacher.embed(images)
        assert found.shape == (4, dim)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(teacher.embed(images[:1]), found[:1], rtol=1e-4, atol=1e-5)  # no batch statistics

    def test_the_fingerprint_changes_with_weights_and_preprocessing(self):
        first = self.build(0).fingerprint()
        assert self.build(0).fingerprint() == first
        assert self.build(1).fingerprint() != first
        assert self.build(0, mean=(1.0, 2.0, 3.0)).fingerprint() != first

    def test_weights_from_a_file(self, tmp_path):
        torch.manual_seed(7)
        trunk, _ = build_trunk("timm/test_resnet", 32)
        torch.save(trunk.state_dict(), tmp_path / "w.pth")
        given = TeacherInput(size=32)
        teacher = build_teacher("timm/test_resnet", str(tmp_path / "w.pth"), given)
        assert teacher.fingerprint() == self.build(7).fingerprint()
        with pytest.raises(ModelError, match="lacks tensor"):
            build_teacher("torchvision/resnet18", str(tmp_path / "w.pth"), given)

    def test_unknown_names(self):
        with pytest.raises(ModelError, match=r"unknown teacher 'torchvision/resnet51'.*torchvision/resnet5"):
            build_teacher("torchvision/resnet51")
        with pytest.raises(ModelError, match="onnx:FILE"):
            build_teacher("model.onnx")
