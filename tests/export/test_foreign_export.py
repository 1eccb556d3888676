"""``kdedge export --from``: networks that kdedge did not train, from three exporters, quantised and described."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
import typer
from numpy.typing import NDArray
from torch import nn
from typer.testing import CliRunner

from kdedge.cli.export import export
from kdedge.errors import DataError, ExportError
from kdedge.export.graph import read_card
from kdedge.export.guard import Limits
from kdedge.export.recipe import ExportOptions
from kdedge.export.sources import ForeignOptions, export_foreign
from kdedge.runtime.classifier import Classifier
from kdedge.training.batchnorm import reestimate

SIZE = 64
CLASSES = ("ant", "bee", "cat", "dog", "eel")
MEAN, STD = (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for number in range(60):
        rough = random.integers(0, 256, (5, 5, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        place = folder / CLASSES[number % len(CLASSES)] / f"{number:02}.png"
        place.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(place), rough)
    return folder


def _pixels(photographs: Path) -> torch.Tensor:
    images = [cv2.imread(str(path))[:SIZE, :SIZE] for path in sorted(photographs.rglob("*.png"))]
    return torch.from_numpy((np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5)


def _telling(model: nn.Module, head: nn.Linear, pixels: torch.Tensor) -> nn.Module:
    """A network of random weights whose answers differ from image to image."""
    reestimate(model, [pixels])
    with torch.inference_mode():
        logits = model.eval()(pixels)
        mean, deviation = logits.mean(0), logits.std(0)
    with torch.no_grad():
        head.weight.mul_(4 / deviation[:, None])
        head.bias.sub_(mean).mul_(4 / deviation)
    return model


def _torchvision(path: Path, pixels: torch.Tensor) -> Path:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(num_classes=len(CLASSES))
    _telling(model, model.fc, pixels)
    batch = torch.export.Dim("batch")
    torch.onnx.export(model, (pixels[:2],), path, dynamo=True, external_data=False, dynamic_shapes=({0: batch},))
    return path


def _timm(path: Path, pixels: torch.Tensor) -> Path:
    """With the older exporter: TorchScript, opset 11, a fixed batch of 1."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=len(CLASSES))
    _telling(model, model.fc, pixels)
    torch.onnx.export(model, (pixels[:1],), path, dynamo=False, opset_version=11)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("write", [_torchvision, _timm])
def test_a_network_becomes_a_small_file_that_describes_itself(
    write: Any, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "net.onnx", _pixels(photographs))
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    app = typer.Typer()
    app.command()(export)
    words = ["--from", str(source), "--calibrate", str(photographs), "--labels", "labels.txt", "--min-speedup", "0"]
    words += ["--max-drop", "100", "--min-agreement", "0"]  # random weights: what they lose on 12 images says nothing
    words += ["--mean", "127.5,127.5,127.5", "--std", "127.5,127.5,127.5", "--target", "x86", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert (value["calibration"]["images"], value["int8"]["parity"]["images"]) == (48, 12)
    assert value["fusion"]["share"] == 1.0
    assert value["int8"]["bytes"] < 0.3 * source.stat().st_size
    card = read_card(tmp_path / "net.int8.onnx")
    assert (card.name, card.labels, card.precision, card.preprocess.size) == ("net", CLASSES, "int8", SIZE)
    assert card.provenance["source_producer"].startswith("pytorch")
    assert len(card.provenance["source_sha256"]) == 64
    model = Classifier(tmp_path / "net.int8.onnx")
    assert model.embeddings(photographs / "ant" / "00.png").shape == (1, 512)
    first = Classifier(tmp_path / "net.fp32.onnx")
    files = sorted(photographs.rglob("*.png"))
    same = [a.label == b.label for a, b in zip(model.predict(files), first.predict(files), strict=True)]
    print(np.mean(same))
    assert np.mean(same) > 0.85
    assert len({prediction.label for prediction in first.predict(files)}) >= 3


def test_a_network_of_a_third_exporter(photographs: Path, tmp_path: Path) -> None:
    """ShuffleNet as caffe2 exported it, which comes with the onnx package: opset 9, IR 3, Softmax at the end."""
    source = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_shufflenet.onnx"
    given = ForeignOptions(tuple(map(str, range(1000))), MEAN, STD, photographs)
    # its weights are constants, so all images look alike to it: agreement says nothing
    limits = Limits(100.0, 0.0, 0.0, -1.0)
    options = ExportOptions(method="minmax", out=tmp_path / "s.onnx", limits=limits)
    result = export_foreign(source, given, options)
    assert result.int8
    assert result.fp32.parity.relative_error < 1e-4
    assert read_card(result.int8.path).preprocess.size == 224
    assert len(Classifier(result.int8.path).predict(photographs / "ant" / "00.png").pop().labels) == 5


def _given(photographs: Path, **more: Any) -> ForeignOptions:
    return ForeignOptions(**{"labels": CLASSES, "mean": MEAN, "std": STD, "calibrate": photographs, **more})


@pytest.fixture(scope="module")
def plain(small_onnx: Path) -> Path:
    return small_onnx


def test_what_does_not_fit_is_refused(plain: Path, photographs: Path, tmp_path: Path) -> None:
    options = ExportOptions(out=tmp_path / "out" / "a.onnx")
    with pytest.raises(ExportError, match="the network has 4 classes, the list has 5 labels"):
        export_foreign(plain, _given(photographs), options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        export_foreign(plain, _given(tmp_path / "empty", labels=CLASSES[:4]), options)
    with pytest.raises(DataError, match="eel"):
        export_foreign(plain, _given(photographs, labels=CLASSES[:4], val=photographs), options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ("--calibrate", "--from needs --calibrate DIR"),
        ("--labels", "--from needs --labels FILE"),
        ("--mean", "--from needs --mean and --std, in units of 0-255"),
    ],
)
def test_what_is_missing_is_asked_for(left_out: str, said: str, plain: Path, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES[:4]))
    given = {"--calibrate": photographs, "--labels": tmp_path / "labels.txt", "--mean": "0,0,0", "--std": "1,1,1"}
    words = [str(word) for key, value in given.items() if key != left_out for word in (key, value)]
    app = typer.Typer()
    app.command()(export)
    result = CliRunner().invoke(app, ["--from", str(plain), *words])
    assert isinstance(result.exception, ExportError)
    assert said in str(result.exception)


def test_a_file_of_kdedge_knows_its_labels(
    small: nn.Module, card: Any, pictures: NDArray[np.uint8], photographs: Path, tmp_path: Path
) -> None:
    from kdedge.export.sources import export_student

    options = ExportOptions(int8=False, out=tmp_path / "first.onnx")
    export_student(small, card, tmp_path, calibration=None, heldout=pictures[:8], options=options)
    app = typer.Typer()
    app.command()(export)
    words = ["--from", str(tmp_path / "first.onnx"), "--calibrate", str(photographs), "--fp32-only"]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "second.onnx")])
    assert result.exit_code == 0, result.output
    again = read_card(tmp_path / "second.onnx")
    assert (again.labels, again.preprocess, again.name) == (card.labels, card.preprocess, card.name)


@pytest.mark.parametrize("ending", ["Sigmoid", "softmax written out"])
@pytest.mark.parametrize("target", ["x86", "jetson"])
def test_a_network_that_gives_probabilities(ending: str, target: str, photographs: Path, tmp_path: Path) -> None:
    """They are given out as they are, in float, and not turned into probabilities once more."""
    from kdedge.export.targets import target_for
    from tests.export import foreign_networks as fn

    last = [fn.node("Sigmoid", "g", "y")]
    if ending != "Sigmoid":
        last = [fn.node("Exp", "g", "e"), fn.node("ReduceSum", "e one", "s"), fn.node("Div", "e s", "y")]
    source = fn.write(tmp_path, fn.network([*fn.BODY, *fn.HEAD, *last], ["y"], more={"one": np.array([1])}))
    options = ExportOptions(
        method="minmax", out=tmp_path / "p.onnx", target=target_for(target), limits=Limits(100.0, 0.0, 0.0, -1.0)
    )
    result = export_foreign(source, _given(photographs, labels=CLASSES[:4]), options)
    assert result.int8
    card = read_card(result.int8.path)
    assert next(iter(card.outputs)) == "probabilities"
    assert card.probability_output
    pixels = np.full((2, fn.SIZE, fn.SIZE, 3), 200, np.uint8)
    pixels[1, :, :8] = 30
    wanted = fn.run(source, card.preprocess.normalize(pixels))[0]
    before = Classifier(result.fp32.path).predict(list(pixels), top=4)
    for prediction, row in zip(before, wanted, strict=True):
        np.testing.assert_allclose(prediction.probabilities, np.sort(row)[::-1], rtol=1e-4)
    after = Classifier(result.int8.path).predict(list(pixels), top=4)
    for prediction, row in zip(after, wanted, strict=True):
        np.testing.assert_allclose(prediction.probabilities, np.sort(row)[::-1], atol=0.05)


def test_a_fixed_batch_of_the_newer_exporter_is_freed(photographs: Path, tmp_path: Path) -> None:
    """It writes Reshape with ``allowzero``; a batch that cannot be freed stays, and the target takes it."""
    from tests.export import foreign_networks as fn

    reshape = fn.node("Reshape", "p shape", "f", allowzero=1)
    model = fn.network(
        [*fn.BODY, reshape, fn.HEAD[1]], shape=(1, 3, fn.SIZE, fn.SIZE), more={"shape": np.array([1, 8])}
    )
    given = _given(photographs, labels=CLASSES[:4])
    limits = Limits(100.0, 0.0, 0.0, -1.0)
    result = export_foreign(
        fn.write(tmp_path, model), given, ExportOptions(method="minmax", out=tmp_path / "free.onnx", limits=limits)
    )
    assert read_card(result.best.path).input["batch"] == 0
    stuck = fn.network(
        [*fn.BODY, fn.node("Expand", "p one", "q"), fn.node("Reshape", "q shape", "f"), fn.HEAD[1]],
        shape=(2, 3, fn.SIZE, fn.SIZE),
        more={"one": np.array([2, 8, 1, 1]), "shape": np.array([2, 8])},
    )
    result = export_foreign(
        fn.write(tmp_path, stuck, "stuck.onnx"),
        given,
        ExportOptions(method="minmax", out=tmp_path / "fixed.onnx", limits=limits),
    )
    assert read_card(result.best.path).input["batch"] == 2
    assert len(Classifier(result.best.path).predict([np.zeros((20, 20, 3), np.uint8)] * 3)) == 3
