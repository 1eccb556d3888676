"""Every mistake a user can make: one sentence, exit code 2, nothing half-written."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kdedge.data.faces import encode_png
from tests.conftest import write_color_model
from tests.training.conftest import DIM, PREPROCESS, pictures, write_teacher

Run = Callable[..., SimpleNamespace]
HERE = ["--size", 32, "--steps", 2, "--student", "timm/test_resnet", "--student-weights", "random", "--out", "runs/a"]


@pytest.fixture
def kdedge(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """``kdedge WORDS`` in this process: :func:`kdedge.cli.main`, which catches what a user causes and nothing else."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> SimpleNamespace:
        from kdedge.cli import main

        monkeypatch.setattr(sys, "argv", ["kdedge", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Folders with all that can be wrong, and some that are right."""

    def fill(folder: str, count: int, seed: int) -> None:
        (tmp_path / folder).mkdir(parents=True)
        for number, image in enumerate(pictures(count, seed=seed)):
            (tmp_path / folder / f"{number}.png").write_bytes(encode_png(image))

    fill("transfer", 40, 1)
    for number, name in enumerate(("ant", "bee")):
        fill(f"good/{name}", 4, 10 + number)
    fill("one-class/ant", 4, 20)
    fill("lonely/ant", 4, 30)
    fill("lonely/bee", 1, 31)
    fill("bad", 18, 40)
    (tmp_path / "bad" / "text.jpg").write_text("this is text")
    (tmp_path / "bad" / "cut.png").write_bytes((tmp_path / "transfer" / "0.png").read_bytes()[:60])
    fill("mixed/ant", 9, 50)
    fill("mixed/bee", 9, 51)
    (tmp_path / "mixed" / "bee" / "cut.png").write_bytes((tmp_path / "transfer" / "0.png").read_bytes()[:60])
    fill("flat", 4, 60)
    (tmp_path / "empty").mkdir()
    write_teacher(tmp_path / "teacher.onnx", preprocess=PREPROCESS)
    write_teacher(tmp_path / "bare.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "nothing.onnx").write_bytes(b"")
    (tmp_path / "file").write_text("")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("")
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if "kdedge-cache" not in path.parts
    }


def errors(done: SimpleNamespace) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith("error:")]


def refused(kdedge: Run, folder: Path, words: list[object], said: str) -> None:
    """Exit code 2, one line that begins with ``error:`` and ends the output, and not one file more or less."""
    before = snapshot(folder)
    done = kdedge(*words)
    assert done.code == 2, done.err
    assert len(errors(done)) == 1, done.err
    assert done.err.splitlines()[-1] == errors(done)[0], done.err
    assert said in errors(done)[0]
    assert "Traceback" not in done.err
    assert snapshot(folder) == before


TEACHER = ["--teacher", "onnx:teacher.onnx"]
GOOD = [*TEACHER, "--transfer", "transfer"]
DISTILL: dict[str, tuple[list[object], str]] = {
    "no teacher": (["--transfer", "transfer", *HERE], "give --teacher"),
    "no images": ([*TEACHER, *HERE], "nothing to learn from"),
    "missing transfer": ([*TEACHER, "--transfer", "absent", *HERE], "absent: no such folder"),
    "empty transfer": ([*TEACHER, "--transfer", "empty", *HERE], "empty: no images found"),
    "transfer is a file": ([*TEACHER, "--transfer", "teacher.onnx", *HERE], "this is a file"),
    "missing data": ([*GOOD, "--data", "absent", *HERE], "absent: no such folder"),
    "no class folders": ([*GOOD, "--data", "flat", *HERE], "no class folders"),
    "one class": ([*GOOD, "--data", "one-class", *HERE], "only one class (ant)"),
    "one class to train": ([*GOOD, "--train", "one-class", *HERE], "only one class (ant)"),
    "class with one image": ([*GOOD, "--data", "lonely", *HERE], "the class has 1 image(s)"),
    "other classes to test": ([*GOOD, "--train", "one-class", "--test", "good", *HERE], "only one class"),
    "data with train": ([*GOOD, "--data", "good", "--train", "good", *HERE], "one of --data, --train and --manifest"),
    "data with val": ([*GOOD, "--data", "good", "--val", "good", *HERE], "--val together with --train"),
    "val alone": ([*GOOD, "--val", "good", *HERE], "need labelled images"),
    "corrupt transfer": ([*TEACHER, "--transfer", "bad", *HERE], "2 of 20 images cannot be read"),
    "corrupt labelled": ([*GOOD, "--train", "mixed", *HERE], "1 of 19 images cannot be read"),
    "unknown teacher": (
        ["--teacher", "torchvision/resnet51", "--transfer", "transfer", *HERE],
        "did you mean torchvision",
    ),
    "teacher without family": (["--teacher", "resnet50", "--transfer", "transfer", *HERE], "did you mean"),
    "missing onnx": (["--teacher", "onnx:absent.onnx", "--transfer", "transfer", *HERE], "no such ONNX file"),
    "onnx without card": (["--teacher", "onnx:bare.onnx", "--transfer", "transfer", *HERE], "--teacher-mean"),
    "onnx that is text": (["--teacher", "onnx:text.onnx", "--transfer", "transfer", *HERE], "text.onnx"),
    "empty onnx": (["--teacher", "onnx:nothing.onnx", "--transfer", "transfer", *HERE], "nothing.onnx"),
    "unknown tensor": (["--teacher", "onnx:teacher.onnx:deep", "--transfer", "transfer", *HERE], "no tensor 'deep'"),
    "unknown student": ([*GOOD, *HERE, "--student", "timm/resnet10"], "did you mean timm/resnet10t"),
    "student too large": ([*GOOD, *HERE, "--student", "kdedge/convnet9"], "193 to 256 pixels"),
    "missing weights": ([*GOOD, *HERE, "--student-weights", "w.safetensors"], "no such file of weights"),
    "wrong weights": ([*GOOD, *HERE, "--student-weights", "text.onnx"], "not safetensors and not a torch file"),
    "unknown loss": ([*GOOD, *HERE, "--loss", "l2"], "unknown loss 'l2'; choose one of mse"),
    "unknown precision": ([*GOOD, *HERE, "--precision", "int8"], "choose one of auto, fp32, bf16"),
    "threads beyond the machine": ([*GOOD, *HERE, "--threads", 100000], "--threads is 100000; this machine has"),
    "unknown colour": ([*GOOD, *HERE, "--teacher-color", "gbr"], "'gbr'"),
    "two numbers": ([*GOOD, *HERE, "--teacher-mean", "1,2"], "three numbers with commas"),
    "two lengths": ([*GOOD, *HERE, "--epochs", 2], "one of --epochs, --steps and --minutes"),
    "no steps": ([*GOOD, *HERE, "--steps", 0], "--steps is 0"),
    "tiny images": ([*GOOD, *HERE, "--size", 8], "--size is 8"),
    "batch of one": ([*GOOD, *HERE, "--batch", 1], "--batch is 1"),
    "negative seed": ([*GOOD, *HERE, "--seed", -1], "--seed is -1"),
    "out is a file": ([*GOOD, *HERE, "--out", "file"], "is a file"),
    "out is something else": ([*GOOD, *HERE, "--out", "thesis"], "exists and is not empty"),
    "overwrite something else": ([*GOOD, *HERE, "--out", "thesis", "--overwrite"], "not a run directory"),
    "resume nothing": (["--resume", "--out", "runs/absent"], "cannot be read; is this a run directory"),
}


@pytest.mark.parametrize("case", DISTILL)
def test_distill(kdedge: Run, files: Path, case: str) -> None:
    words, said = DISTILL[case]
    refused(kdedge, files, ["distill", *words], said)


def test_a_teacher_that_sees_nothing(kdedge: Run, files: Path) -> None:
    words = ["distill", *GOOD, *HERE, "--teacher-std", "1e9,1e9,1e9", "--teacher-mean", "1e15,1e15,1e15"]
    refused(kdedge, files, words, "the same activations; is its preprocessing right?")


def test_a_run_that_exists(kdedge: Run, files: Path) -> None:
    """Neither the run nor, with --overwrite and a mistake, the one before it is touched."""
    done = kdedge("distill", *GOOD, "--data", "good", "--train-views", 2, *HERE)
    assert done.code == 0, done.err
    assert errors(done) == []
    refused(kdedge, files, ["distill", *GOOD, *HERE], "go on with --resume, start anew with --overwrite")
    for words in ([*TEACHER, "--transfer", "bad"], [*TEACHER, "--transfer", "absent"], ["--teacher", "onnx:bare.onnx"]):
        refused(kdedge, files, ["distill", "--transfer", "transfer", *words, *HERE, "--overwrite"], "")
    refused(kdedge, files, ["export", "runs/a", "--target", "toaster"], "toaster")
    refused(kdedge, files, ["export", "runs/a", "--calibration", "best"], "best")
    refused(kdedge, files, ["classify", "good/ant/0.png", "--model", "runs/a"], "kdedge export")
    checkpoint = files / "runs/a/checkpoints/best.safetensors"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-9])
    refused(kdedge, files, ["export", "runs/a"], "damaged")
    checkpoint.write_bytes(whole)
    gone = files / "transfer" / "0.png"
    shown = json.loads((files / "runs/a/images.json").read_text())
    for name in {*shown["trained"], *shown["heldout"]}:
        Path(name).unlink()
    assert not gone.exists()
    refused(kdedge, files, ["export", "runs/a"], "cannot be read")


def test_one_labelled_image_a_class_is_enough_for_a_run(kdedge: Run, files: Path) -> None:
    """Of two, one validates; cross-validation is impossible then, and no NaN shall reach a file."""
    for name in ("ant", "bee"):
        for path in sorted((files / "good" / name).iterdir())[2:]:
            path.unlink()
    done = kdedge("distill", *GOOD, "--data", "good", "--train-views", 2, *HERE, "--json")
    assert done.code == 0, done.err
    scores = json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert 0 <= scores["val_accuracy"] <= 1
    for path in (files / "runs/a").rglob("*.json"):
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


@pytest.mark.parametrize(
    ("run", "said"),
    [("runs/absent", "no such run directory"), ("thesis", "not a run directory"), ("file", "file")],
)
def test_export(kdedge: Run, files: Path, run: str, said: str) -> None:
    refused(kdedge, files, ["export", run], said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["good", "--model", "bare.onnx"], "bare.onnx: this ONNX file has no kdedge card"),
        (["good", "--model", "text.onnx"], "text.onnx"),
        (["good", "--model", "nothing.onnx"], "nothing.onnx"),
        (["good", "--model", "absent.onnx"], "absent.onnx: no such model"),
        (["good", "--model", "file"], "a model is an .onnx file"),
        (["good", "--model", "empty"], "kdedge export"),
        (["empty", "--model", "colors.onnx"], "1 of 1 could not be read"),
        (["absent.png", "--model", "colors.onnx"], "1 of 1 could not be read"),
    ],
)
def test_classify(kdedge: Run, files: Path, words: list[object], said: str) -> None:
    write_color_model(files / "colors.onnx")
    refused(kdedge, files, ["classify", *words], said)


def test_classify_an_image_above_the_pixel_cap(kdedge: Run, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_color_model(files / "colors.onnx")
    (files / "large.png").write_bytes(encode_png(np.zeros((40, 30, 3), np.uint8)))
    monkeypatch.setenv("KDEDGE_MAX_PIXELS", "1000")
    refused(kdedge, files, ["classify", "large.png", "--model", "colors.onnx"], "1 of 1 could not be read")
    monkeypatch.setenv("KDEDGE_MAX_PIXELS", "many")
    done = kdedge("classify", "large.png", "--model", "colors.onnx")
    assert (done.code, len(errors(done))) == (2, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bare.onnx", "good"], "no kdedge card"),
        (["text.onnx", "good"], "text.onnx"),
        (["colors.onnx", "absent"], "absent: no such folder"),
        (["colors.onnx", "empty"], "empty: no images found"),
        (["colors.onnx", "flat"], "no class folders"),
        (["colors.onnx", "good"], "is not among the 3 known classes"),
        (["colors.onnx", "spoilt", "--out", "scores.json"], "2 of 20 images are unreadable"),
    ],
)
def test_evaluate(kdedge: Run, files: Path, words: list[object], said: str) -> None:
    write_color_model(files / "colors.onnx")
    (files / "spoilt").mkdir()
    (files / "bad").rename(files / "spoilt" / "red")
    refused(kdedge, files, ["evaluate", *words], said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bare.onnx"], "no kdedge card"),
        (["text.onnx"], "text.onnx"),
        (["absent"], "absent: no such model"),
        (["--student", "timm/resnet10"], "did you mean timm/resnet10t"),
        (["colors.onnx", "--teacher", "torchvision/resnet51"], "did you mean torchvision/resnet"),
        (["colors.onnx", "--student", "timm/resnet10t"], "not both"),
    ],
)
def test_bench(kdedge: Run, files: Path, words: list[object], said: str) -> None:
    write_color_model(files / "colors.onnx")
    refused(kdedge, files, ["bench", *words, "--repeats", 1, "--out", "bench.json"], said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "absent"], "absent: no such folder"),
        (["check", "empty"], "empty: no images found"),
        (["check", "bad"], "2 of 20 images cannot be read"),
        (["check", "good", "--against", "good"], "8 file(s) of good also lie in good"),
        (["split", "good", "--k", 4, "--out", "split"], "class 'ant' has 4 image(s)"),
        (["split", "one-class", "--k", 1, "--out", "split"], "only one class (ant)"),
        (["split", "flat", "--k", 1, "--out", "split"], "no class folders"),
        (["split", "good", "--k", 1, "--out", "thesis"], "exists and is not empty"),
        (["faces", "absent", "--out", "faces"], "absent: no such folder"),
        (["faces", "transfer", "--out", "thesis"], "exists and is not empty"),
        (["generate", "--seeds", "5:2", "--out", "made"], "--seeds '5:2'"),
        (["generate", "--seeds", "0:2", "--weights", "absent.tar", "--out", "made"], "absent.tar: cannot be read"),
    ],
)
def test_data(kdedge: Run, files: Path, words: list[object], said: str) -> None:
    refused(kdedge, files, ["data", *words], said)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--budget", 0], "--budget is 0"), (["--seed", -1], "--seed is -1"), (["--out", "thesis"], "not empty")],
)
def test_quickstart(kdedge: Run, files: Path, words: list[object], said: str) -> None:
    refused(kdedge, files, ["quickstart", *words], said)


def test_unknown_options_and_commands_are_refused(kdedge: Run, files: Path) -> None:
    for words in (["distil"], ["distill", "--teecher", "a"], ["classify"], ["export"], []):
        assert kdedge(*words).code == 2


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("bare.onnx", "no kdedge card"),
        ("text.onnx", "text.onnx"),
        ("nothing.onnx", "nothing.onnx"),
        ("absent.onnx", "absent.onnx: no such model"),
        ("file", "a model is an .onnx file"),
        ("empty", "kdedge export"),
    ],
)
def test_info(kdedge: Run, files: Path, file: str, said: str) -> None:
    refused(kdedge, files, ["info", file], said)


GRAY = ["--mean", "127,127,127", "--std", "128,128,128"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bare.onnx"], "give --labels FILE or --card"),
        (["bare.onnx", "--labels", "six.txt"], "give --mean and --std"),
        (["bare.onnx", "--labels", "six.txt", "--mean", "1,2", "--std", "1,1,1"], "three numbers with commas"),
        (["bare.onnx", "--labels", "six.txt", *GRAY], "none of its outputs"),  # an embedding is no answer
        (["colors.onnx"], "has a card already"),
        (
            ["colors.onnx", "--labels", "six.txt", "--overwrite"],
            "none of its outputs has a number for each of 6 labels",
        ),
        (["colors.onnx", "--labels", "absent.txt", "--overwrite"], "absent.txt: cannot be read as a list of labels"),
        (["colors.onnx", "--labels", "file", "--overwrite"], "file: no labels in it"),
        (["colors.onnx", "--labels", "twice.txt", "--overwrite"], "labels 1 and 2 are both 'ant'"),
        (["colors.onnx", "--card", "six.txt", "--overwrite"], "six.txt: the card is not JSON"),
        (["colors.onnx", "--card", "absent.json", "--overwrite"], "absent.json: cannot be read as a card"),
        (["colors.onnx", "--size", 32, "--overwrite"], "16 x 16 pixels, not 32 x 32"),
        (["colors.onnx", "--color", "gbr", "--overwrite"], "'gbr'"),
        (["colors.onnx", "--resize", "stretch", "--overwrite"], "'stretch'"),
        (["colors.onnx", "--std", "0,1,1", "--overwrite"], "std above zero"),
        (["colors.onnx", "--mean", "nan,0,0", "--overwrite"], "not finite; check --mean"),
        (["colors.onnx", "--out", "teacher.onnx"], "teacher.onnx exists already"),
        (["colors.onnx", "--out", "empty", "--overwrite"], "a model is an .onnx file"),
        (["colors.onnx", "--out", "file/new.onnx"], "cannot be written"),
        (["text.onnx", "--labels", "six.txt", *GRAY], "text.onnx: not an ONNX file"),
        (["nothing.onnx", "--labels", "six.txt", *GRAY], "nothing.onnx: not an ONNX file"),
        (["absent.onnx", "--labels", "six.txt", *GRAY], "absent.onnx: no such model file"),
        (["empty", "--labels", "six.txt", *GRAY], "a model is an .onnx file"),
    ],
)
def test_card_attach(kdedge: Run, files: Path, words: list[object], said: str) -> None:
    write_color_model(files / "colors.onnx")
    (files / "six.txt").write_text("a\nb\nc\nd\ne\nf\n")
    (files / "twice.txt").write_text("ant\nant\n")
    refused(kdedge, files, ["card", "attach", *words], said)


FOREIGN = ["export", "--from", "bare.onnx", "--calibrate", "good", "--labels", "labels.txt", "--out", "made/a.onnx"]
SCALE = ["--mean", "0,0,0", "--std", "1,1,1"]
EXPORTS: dict[str, tuple[list[object], str]] = {
    "nothing": (["export"], "give a run directory or --from FILE"),
    "both": (["export", "runs/a", "--from", "bare.onnx"], "one of the two"),
    "no preparation": (FOREIGN, "--mean and --std"),
    "two numbers": ([*FOREIGN, "--mean", "0,0", "--std", "1,1,1"], "three numbers"),
    "no such file": ([*FOREIGN, *SCALE, "--from", "absent.onnx"], "absent.onnx"),
    "text": ([*FOREIGN, *SCALE, "--from", "text.onnx"], "text.onnx"),
    "empty file": ([*FOREIGN, *SCALE, "--from", "nothing.onnx"], "nothing.onnx"),
    "no such labels": ([*FOREIGN, *SCALE, "--labels", "absent.txt"], "absent.txt: cannot be read as a list of labels"),
    "too many labels": ([*FOREIGN, *SCALE], "labels"),
    "no such images": ([*FOREIGN, *SCALE, "--labels", "six.txt", "--calibrate", "absent"], "absent: no such folder"),
    "no images": ([*FOREIGN, *SCALE, "--labels", "six.txt", "--calibrate", "empty"], "empty: no images"),
    "colour": ([*FOREIGN, *SCALE, "--color", "blue"], "--color blue: choose rgb or bgr"),
    "resize": ([*FOREIGN, *SCALE, "--resize", "fit"], "--resize fit: choose crop or squash"),
    "no float16 there": ([*FOREIGN, *SCALE, "--target", "x86", "--float16"], "--float16 is for GPUs"),
    "no such opset": ([*FOREIGN, *SCALE, "--opset", "9"], "opset 9 is not possible"),
    "no name": ([*FOREIGN, *SCALE, "--out", "made/a.bin"], "must end in .onnx"),
    "exists": ([*FOREIGN, *SCALE, "--labels", "six.txt", "--out", "teacher.onnx"], "teacher.onnx exists already"),
    "of --from alone": (["export", "runs/a", "--mean", "0,0,0"], "--mean belongs to --from FILE"),
}


@pytest.mark.parametrize("case", EXPORTS)
def test_export_of_a_file(kdedge: Run, files: Path, case: str) -> None:
    (files / "labels.txt").write_text("\n".join("abc"))
    (files / "six.txt").write_text("\n".join(map(str, range(DIM))))
    refused(kdedge, files, *EXPORTS[case])
