import tomllib
from dataclasses import replace

import pytest

from kdedge.errors import RunError
from kdedge.training.augment import Augment
from kdedge.training.config import DistillConfig, read_config, write_config

PLAIN = DistillConfig("torchvision/resnet50", "timm/resnet10t", "runs/a", transfer="photos")
FULL = DistillConfig(
    teacher="onnx:a b.onnx:flat",
    student="timm/resnet10t",
    out="runs/ü",
    transfer='pho"tos\\',
    train="train",
    val="val",
    test="test",
    loss="bce",
    steps=70,
    size=112,
    batch=16,
    lr=1e-3,
    weight_decay=0.0,
    views=3,
    train_views=0,
    heldout=0.1,
    evaluations=2,
    student_weights="w.safetensors",
    teacher_weights="random",
    teacher_size=224,
    teacher_mean=(91.4953, 103.8827, 131.0912),
    teacher_std=(1.0, 1.0, 1.0),
    teacher_color="bgr",
    precision="fp32",
    seed=7,
    augment=Augment(flip=0.0, rotate=5.0, zoom=(0.9, 1.1), jitter=(0.1, 0.2, 0.3, 0.04)),
)


@pytest.mark.parametrize("config", [PLAIN, FULL])
def test_toml_round_trip(config, tmp_path):
    path = tmp_path / "config.toml"
    write_config(path, config)
    assert read_config(path) == config
    assert set(tomllib.loads(path.read_text(encoding="utf-8"))) == {"command", "distill"}


def test_integers_in_toml_may_stand_for_numbers(tmp_path):
    write_config(tmp_path / "c.toml", replace(PLAIN, minutes=2))
    assert read_config(tmp_path / "c.toml").minutes == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 5, "epochs": 2.0}, "one of --epochs, --steps and --minutes"),
        ({"steps": 5, "minutes": 2.0, "epochs": 1.0}, "--epochs and --steps and --minutes"),
        ({"steps": 0}, "--steps is 0"),
        ({"epochs": -1.0}, "--epochs is -1.0"),
        ({"minutes": 0.0}, "--minutes is 0.0"),
        ({"data": "d", "train": "t"}, "one of --data, --train and --manifest"),
        ({"manifest": "m.csv", "test": "t"}, "--manifest holds"),
        ({"data": "d", "val": "v"}, "--val together with --train"),
        ({"transfer": None}, "nothing to learn from"),
        ({"val": "v"}, "need labelled images"),
        ({"test": "t"}, "need labelled images"),
        ({"views": 0}, "--views must be at least 1"),
        ({"train_views": -1}, "--train-views at least 0"),
        ({"heldout": 0.0}, "--heldout is 0.0"),
        ({"heldout": 0.5}, "--heldout is 0.5"),
        ({"precision": "int8"}, "choose one of auto, fp32, bf16"),
        ({"targets": "pca"}, "--targets is 'pca'"),
        ({"teacher_mode": "both"}, "--teacher-mode is"),
        ({"mixup": 1.0}, "--teacher-mode live"),
        ({"mixup": -1.0, "teacher_mode": "live"}, "--mixup is -1; it must not be negative"),
        ({"threads": -1}, "--threads is -1"),
        ({"size": 8}, "--size is 8"),
        ({"size": 5000}, "--size is 5000"),
        ({"batch": 1}, "--batch is 1"),
        ({"lr": -1.0}, "--lr -1"),
        ({"lr": float("nan")}, "--lr nan"),
        ({"weight_decay": -0.1}, "--weight-decay -0.1"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_bad_settings_are_one_sentence(changes, said):
    with pytest.raises(RunError) as caught:
        replace(PLAIN, **changes)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize(
    "changes", [{"data": "d", "test": "t"}, {"train": "t", "val": "v", "test": "e"}, {"data": "d"}]
)
def test_settings_that_go_together(changes):
    replace(PLAIN, **changes)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not toml [",
        b"\xff\xfe\x00",
        b'[distill]\nteacher = "t"\n',
        b'[distill]\nteacher = "t"\nstudent = "s"\nout = "o"\ntransfer = "x"\ncolour = "red"\n',
        b'[distill]\nteacher = "t"\nstudent = "s"\nout = "o"\ntransfer = "x"\n[distill.augment]\nwobble = 1\n',
    ],
)
def test_files_that_are_no_settings(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_bytes(text)
    with pytest.raises(RunError, match=r"config\.toml: "):
        read_config(path)


def test_no_file(tmp_path):
    with pytest.raises(RunError, match="is this a run directory"):
        read_config(tmp_path / "config.toml")
