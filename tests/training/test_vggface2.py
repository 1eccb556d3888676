import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdedge.errors import ModelError
from kdedge.training.students import build_student
from kdedge.training.teachers import TeacherInput, build_teacher
from kdedge.training.vggface2 import CLASSES, vggface2_preprocess, vggface2_resnet50

NAME = "vggface2/resnet50"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file of the published format: arrays under torchvision's names, classifier included, no batch counts."""
    torch.manual_seed(0)
    arrays = {k: v.numpy() for k, v in vggface2_resnet50().state_dict().items() if "num_batches" not in k}
    arrays |= {"fc.weight": np.zeros((CLASSES, 2048), np.float32), "fc.bias": np.zeros(CLASSES, np.float32)}
    path = tmp_path_factory.mktemp("weights") / "resnet50_ft_weight.pkl"
    path.write_bytes(pickle.dumps(arrays, 2))
    return path, arrays


def test_preprocessing_by_hand():
    image = np.zeros((1, 224, 224, 3), np.uint8)
    image[0, 5, 7] = (10, 20, 30)  # red, green, blue
    found = vggface2_preprocess().normalize(image)
    assert found.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(found[0, :, 5, 7], [30 - 91.4953, 20 - 103.8827, 10 - 131.0912], rtol=1e-6)
    np.testing.assert_allclose(found[0, :, 0, 0], [-91.4953, -103.8827, -131.0912], rtol=1e-6)


def test_a_teacher_from_the_published_file(published):
    path, arrays = published
    teacher = build_teacher(NAME, str(path))
    assert (teacher.dim, teacher.preprocess) == (2048, vggface2_preprocess())
    images = np.random.default_rng(0).integers(0, 255, (1, 224, 224, 3), dtype=np.uint8)
    seen = {}
    trunk = teacher._trunk
    for name in ("maxpool", "layer1", "layer2"):
        trunk.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    assert teacher.embed(images).shape == (1, 2048)

    def norm(x, name):
        w = [torch.from_numpy(arrays[f"{name}.{key}"]) for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *w, eps=1e-5)

    def conv(x, name, **how):
        return F.conv2d(x, torch.from_numpy(arrays[f"{name}.weight"]), **how)

    x = torch.from_numpy(teacher.preprocess.normalize(images))
    x = F.relu(norm(conv(x, "conv1", stride=2, padding=3), "bn1"))
    x = F.max_pool2d(
        F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2
    )  # ceil mode: 112 to 56 needs one more column and row
    torch.testing.assert_close(seen["maxpool"], x, rtol=1e-4, atol=1e-4)
    x = seen["layer1"]
    stem, shortcut = "layer2.0", "layer2.0.downsample"
    y = F.relu(norm(conv(x, f"{stem}.conv1", stride=2), f"{stem}.bn1"))  # Caffe: the 1x1 convolution strides
    y = F.relu(norm(conv(y, f"{stem}.conv2", padding=1), f"{stem}.bn2"))
    y = norm(conv(y, f"{stem}.conv3"), f"{stem}.bn3")
    y = F.relu(y + norm(conv(x, f"{shortcut}.0", stride=2), f"{shortcut}.1"))
    torch.testing.assert_close(trunk.layer2[0](x), y, rtol=1e-3, atol=1e-3)


def test_a_student_from_the_published_file(published):
    student = build_student(NAME, 3, str(published[0]))
    assert torch.equal(student.trunk.conv1.weight, torch.from_numpy(published[1]["conv1.weight"]))


def test_files_that_do_not_fit(published, tmp_path):
    arrays = dict(published[1])
    del arrays["layer3.0.conv1.weight"]
    path = tmp_path / "part.pkl"
    path.write_bytes(pickle.dumps(arrays))
    with pytest.raises(ModelError, match=r"lacks 'layer3\.0\.conv1\.weight'"):
        build_teacher(NAME, str(path))
    path.write_bytes(pickle.dumps(arrays | {"layer3.0.conv1.weight": np.zeros((3, 3), np.float32)}))
    with pytest.raises(ModelError, match="expected"):
        build_teacher(NAME, str(path))
    with pytest.raises(ModelError, match=r"vggface2/resnet50 only"):
        build_teacher("torchvision/resnet50", str(path), TeacherInput(size=32))


def test_no_download():
    with pytest.raises(ModelError, match="--teacher-weights"):
        build_teacher(NAME)
