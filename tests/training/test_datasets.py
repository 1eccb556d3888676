"""What is trained on, what is held out, and which images are refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from kdedge.errors import DataError
from kdedge.progress import no_bars
from kdedge.training.activations import ViewBank
from kdedge.training.config import DistillConfig
from kdedge.training.datasets import gather, require_folders
from kdedge.training.views import first_views, split_rows, to_view, views_of_labelled


@pytest.fixture
def folders(write_pictures, tmp_path):
    """40 unlabelled images; 3 classes with 5 to train, 2 to validate and 4 to test; all different."""
    write_pictures("transfer", 40, seed=100)
    for number, name in enumerate("abc"):
        for part, count in (("train", 5), ("val", 2), ("test", 4)):
            write_pictures(f"{part}/{name}", count, seed=1000 * number + len(part))
    return tmp_path


@pytest.fixture
def config(folders):
    return DistillConfig(
        "onnx:t.onnx", "timm/test_resnet", "out", transfer=str(folders / "transfer"), train=str(folders / "train")
    )


def read(config, said=None):
    return gather(config, 16, no_bars, (said if said is not None else []).append)


def rows_of(config, material):
    """The bank that distillation would make, and its rows to train and to measure on."""
    images, views = to_view(material, config)
    bank = ViewBank(images, np.zeros((sum(views), 1), np.float32), np.repeat(np.arange(len(images)), views))
    # a view stands for its image here
    bank = replace(bank, views=images[bank.image])
    return bank, *split_rows(bank, material, config)


def pixels(images):
    return {image.tobytes() for image in images}


@pytest.mark.parametrize("train_views", [0, 3])
@pytest.mark.parametrize("parts", [(), ("val",), ("test",), ("val", "test")])
def test_what_is_held_out_is_never_trained_on(config, folders, parts, train_views):
    config = replace(config, train_views=train_views, **{part: str(folders / part) for part in parts})
    material = read(config)
    bank, rows, held = rows_of(config, material)
    trained, measured = pixels(bank.views[rows]), pixels(bank.views[held])
    assert trained
    assert measured
    assert not trained & measured
    assert not set(bank.image[rows]) & set(bank.image[held])
    if material.test:
        assert not pixels(material.test.images) & (trained | measured)
    if material.val:
        assert pixels(material.val.images) <= measured
    assert measured == pixels(material.heldout_images())
    assert not set(material.trained_paths()) & set(material.heldout_paths())
    assert len(material.heldout_paths()) == len(material.heldout_images())
    labelled, classes = views_of_labelled(bank, material)
    assert len(labelled) == 15 * max(1, train_views)
    assert pixels(bank.views[labelled]) == pixels(material.train.images)
    assert (np.bincount(classes) == 5 * max(1, train_views)).all()


def test_data_sets_a_fifth_of_each_class_aside(config, folders):
    material = read(replace(config, train=None, data=str(folders / "train")))
    assert (np.bincount(material.train.labels) == 4).all()
    assert (np.bincount(material.val.labels) == 1).all()
    assert not pixels(material.train.images) & pixels(material.val.images)
    assert material.test is None
    other = read(replace(config, train=None, data=str(folders / "train"), seed=1))
    assert pixels(other.val.images) != pixels(material.val.images)


def test_data_may_have_a_test_set(config, folders):
    material = read(replace(config, train=None, data=str(folders / "train"), test=str(folders / "test")))
    assert len(material.test.labels) == 12


@pytest.mark.parametrize("part", ["val", "test", "train"])
def test_labelled_images_in_the_transfer_folder_are_left_out(config, folders, part):
    """Under whatever name: a student must not be trained on what it is measured on."""
    for number, path in enumerate(sorted((folders / part).rglob("*.png"))):
        shutil.copy(path, folders / "transfer" / f"holiday{number}.png")
    said = []
    material = read(replace(config, val=str(folders / "val"), test=str(folders / "test")), said)
    labelled = {"val": material.val, "test": material.test, "train": material.train}[part]
    assert len(material.transfer) == len(material.transfer_paths) == 40
    assert not pixels(material.transfer) & pixels(labelled.images)
    assert any(f"left out {len(labelled.labels)} transfer images" in line for line in said)
    bank, rows, held = rows_of(config, material)
    assert not pixels(bank.views[rows]) & pixels(bank.views[held])


def test_the_same_folder_as_transfer_and_data(config, folders):
    config = replace(config, transfer=str(folders / "train"), train=None, data=str(folders / "train"))
    material = read(config)
    bank, rows, held = rows_of(config, material)
    assert not pixels(bank.views[rows]) & pixels(bank.views[held])


class TestBadImages:
    def spoil(self, folder, count):
        for path in sorted(folder.rglob("*.png"))[:count]:
            path.write_bytes(path.read_bytes()[:50])

    def test_up_to_five_percent_are_skipped_named_and_counted(self, config, folders):
        self.spoil(folders / "transfer", 2)  # 2 of 40
        said = []
        material = read(config, said)
        assert len(material.transfer) == len(material.transfer_paths) == 38
        assert "skipped 2 of 40 images that cannot be read:" in said
        assert sum("000" in line and "truncated" in line for line in said) == 2

    def test_more_are_an_error(self, config, folders):
        self.spoil(folders / "transfer", 3)
        with pytest.raises(DataError, match="3 of 40 images cannot be read"):
            read(config)

    def test_a_skipped_labelled_image_keeps_the_labels_in_step(self, config, folders, write_pictures):
        write_pictures("train/b", 20, seed=77)
        whole = read(config).train
        sorted((folders / "train" / "b").iterdir())[0].write_bytes(b"")
        part = read(config).train
        assert len(part.labels) == len(whole.labels) - 1
        for path, label in zip(part.paths, part.labels, strict=True):
            assert "abc"[label] == path.parent.name

    def test_a_class_without_a_readable_image(self, config, folders, write_pictures):
        write_pictures("train/a", 60, seed=5)
        for path in (folders / "train" / "b").iterdir():
            path.unlink()
        for name in ("0.png", "1.png"):
            (folders / "train" / "b" / name).write_text("text")
        with pytest.raises(DataError, match="class 'b' has no readable image"):
            read(config)


class TestFolders:
    def test_one_class_only(self, config, folders):
        shutil.rmtree(folders / "train" / "a")
        shutil.rmtree(folders / "train" / "b")
        for checked in (config, replace(config, train=None, data=config.train)):
            with pytest.raises(DataError, match=r"only one class \(c\)"):
                require_folders(checked)

    def test_a_class_with_one_image(self, config, folders):
        for path in sorted((folders / "train" / "b").iterdir())[1:]:
            path.unlink()
        for checked in (config, replace(config, train=None, data=config.train)):
            with pytest.raises(DataError, match=r"b: the class has 1 image\(s\); at least 2"):
                require_folders(checked)

    def test_a_class_without_images(self, config, folders):
        (folders / "train" / "empty").mkdir()
        with pytest.raises(DataError, match="empty: the class has 0"):
            require_folders(config)

    def test_a_test_set_of_other_classes(self, config, folders):
        (folders / "test" / "a").rename(folders / "test" / "zebra")
        with pytest.raises(DataError, match="'zebra' is not among the 3 known classes"):
            require_folders(replace(config, test=str(folders / "test")))
        with pytest.raises(DataError, match="'zebra'"):
            require_folders(replace(config, train=None, data=config.train, test=str(folders / "test")))

    @pytest.mark.parametrize("option", ["transfer", "train", "val", "test"])
    def test_missing_and_empty(self, config, tmp_path, option):
        (tmp_path / "nothing").mkdir()
        for folder in ("absent", "nothing"):
            with pytest.raises(DataError, match=folder):
                require_folders(replace(config, **{option: str(tmp_path / folder)}))

    def test_too_few_to_learn_from(self, config, folders):
        for path in sorted((folders / "transfer").iterdir())[2:]:
            path.unlink()
        with pytest.raises(DataError, match="too few to train on"):
            read(replace(config, train=None))


def test_first_views():
    image = np.array([4, 4, 4, 7, 9, 9])
    assert first_views(image, 2).tolist() == [0, 1, 3, 4, 5]
    assert first_views(image, 1).tolist() == [0, 3, 4]
    assert first_views(image, 9).tolist() == [0, 1, 2, 3, 4, 5]
