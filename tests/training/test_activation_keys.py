"""What names a folder of cached activations: whatever changes one of them makes another folder."""

import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from kdedge.files import cache_dir
from kdedge.training.activations import build_bank, settings_key
from kdedge.training.augment import Augment
from kdedge.training.teachers import TeacherInput, build_teacher
from tests.training.conftest import PREPROCESS, pictures, write_teacher

IMAGES = pictures(9)
VIEWS = [3, 1, 2, 5, 1, 1, 4, 2, 1]


@pytest.fixture
def teacher(teacher_file):
    return build_teacher(f"onnx:{teacher_file}")


def build(teacher, images=IMAGES, views=VIEWS, augment=None, seed=0):
    return build_bank(images, views, teacher, augment or Augment(), seed)


def test_whatever_changes_the_activations_changes_the_key(teacher, tmp_path):
    build(teacher)
    other_pixels = IMAGES.copy()
    other_pixels[4, 3, 3, 0] ^= 1
    other_weights = build_teacher(f"onnx:{write_teacher(tmp_path / 'other.onnx', 1, PREPROCESS)}")
    brighter = build_teacher(teacher.name, given=TeacherInput(mean=(100.0, 127.5, 127.5)))
    swapped = build_teacher(teacher.name, given=TeacherInput(color="bgr"))
    inner = build_teacher(f"{teacher.name}:flat")
    changes = [
        lambda: build(teacher, seed=1),
        lambda: build(teacher, images=other_pixels),
        lambda: build(teacher, images=IMAGES[::-1]),
        lambda: build(teacher, views=[*VIEWS[:-1], 2]),
        lambda: build(teacher, views=VIEWS[::-1]),
        lambda: build(teacher, augment=replace(Augment(), rotate=21.0)),
        lambda: build(other_weights),
        lambda: build(brighter),
        lambda: build(swapped),
        lambda: build(inner),
    ]
    for number, change in enumerate(changes, 2):
        assert not change().reused
        assert len(list(cache_dir("activations").iterdir())) == number
        assert change().reused


def changed(value):
    """Another value of the same kind, allowed wherever Augment and Preprocess have one."""
    if isinstance(value, tuple):
        return (changed(value[0]), *value[1:])
    if isinstance(value, str):
        return {"rgb": "bgr", "crop": "squash"}[value]
    return value + 2 if isinstance(value, int) else value * 0.99 + 1e-6


def test_every_setting_is_in_the_key(teacher):
    start = Augment(erase=0.1)
    keys = [settings_key(teacher, start, seed) for seed in range(3)]
    keys += [
        settings_key(teacher, replace(start, **{f.name: changed(getattr(start, f.name))}), 0) for f in fields(start)
    ]
    given = teacher.preprocess
    for field in fields(given):
        teacher.preprocess = replace(given, **{field.name: changed(getattr(given, field.name))})
        keys.append(settings_key(teacher, start, 0))
    teacher.preprocess = given
    keys.append(settings_key(teacher, start, 0, images="others"))
    assert len(set(keys)) == len(keys) == 3 + len(fields(start)) + len(fields(given)) + 1
    assert settings_key(teacher, Augment(erase=0.1), 0) == keys[0]


def test_after_a_change_activations_are_those_of_what_is_there_now(teacher, tmp_path):
    others = [teacher, build_teacher(f"onnx:{write_teacher(tmp_path / 'other.onnx', 1, PREPROCESS)}")]
    others.append(build_teacher(teacher.name, given=TeacherInput(color="bgr")))
    for one in others:
        for options in ({}, {"seed": 1}, {"images": IMAGES[::-1]}, {"augment": Augment.light()}):
            for _ in range(2):
                bank = build(one, **options)
                live = one.embed(bank.views[:])
                np.testing.assert_allclose(bank.activations[:], live, atol=1e-3 * np.ptp(live, 0).max())


def test_any_weight_of_a_torch_teacher_is_in_the_key():
    teacher = build_teacher("timm/test_resnet", "random", TeacherInput(size=32))
    seen = {teacher.fingerprint()}
    state = teacher._trunk.state_dict()
    for tensor in state.values():  # they share the network's memory
        tensor[(-1,) * tensor.ndim] += 1
        seen.add(teacher.fingerprint())
    assert len(seen) == 1 + len(state)


def test_a_torch_teachers_precision_is_in_the_key():
    teacher = build_teacher("timm/test_resnet", "random", TeacherInput(size=32))
    exact = teacher.fingerprint()
    teacher.precision = "bf16"
    assert teacher.fingerprint() != exact


def test_the_name_of_the_file_is_not_in_the_key(teacher, teacher_file, tmp_path):
    build(teacher)
    copied = Path(shutil.copy(teacher_file, tmp_path / "elsewhere.onnx"))
    assert build(build_teacher(f"onnx:{copied}")).reused
