"""An int8 file that keeps its promises, or none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from kdedge.export.effects import gains
from kdedge.export.float_layers import with_makers
from kdedge.export.guard import Guarded, Limits, guard
from kdedge.export.inference import onnx_outputs
from kdedge.export.judge import Judge
from kdedge.export.pictures import Pictures
from kdedge.export.quantize import Quantizer
from kdedge.export.sensitivity import layer_errors
from kdedge.export.speed import Speed
from kdedge.export.targets import target_for
from kdedge.export.to_onnx import export_fp32
from kdedge.preprocess import Preprocess
from tests.export.conftest import SIZE
from tests.export.hard import Outlier, Vanishing, centred

PRE = Preprocess(SIZE)
UNTIMED = Limits(min_speedup=0.0)


class Workshop:
    """A network, quantisable, with a judge."""

    def __init__(self, network: nn.Module, pictures: NDArray[np.uint8], folder: Path) -> None:
        self.folder = folder
        export_fp32(network, SIZE, folder / "fp32.onnx")
        self.quantizer = Quantizer.prepare(
            folder / "fp32.onnx", folder, Pictures(pictures[:30], PRE), PRE, target_for("x86")
        )
        self.held = pictures[30:]
        reference = onnx_outputs(folder / "fp32.onnx", self.held, PRE)
        self.judge = Judge(self.held, np.full(len(self.held), -1), reference, PRE)
        self.images = pictures[:30]

    def guard(self, limits: Limits = UNTIMED, timing: Callable[[Path], Speed | None] = lambda _: None) -> Guarded:
        return guard(self.quantizer, "minmax", self.judge, timing, limits, self.images, self.folder)


def _pixels(pictures: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(PRE.normalize(pictures))


@pytest.fixture(scope="module")
def ordinary(small: nn.Module, pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(small, pictures, tmp_path_factory.mktemp("ordinary"))


@pytest.fixture(scope="module")
def outlier(pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    network = Outlier()
    return Workshop(centred(network, network.head, _pixels(pictures)), pictures, tmp_path_factory.mktemp("outlier"))


@pytest.fixture(scope="module")
def vanishing(pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    network = Vanishing()
    return Workshop(centred(network, network.second, _pixels(pictures)), pictures, tmp_path_factory.mktemp("vanishing"))


def test_a_good_file_is_taken_as_it_is(ordinary: Workshop) -> None:
    found = ordinary.guard()
    assert found.path
    assert len(found.attempts) == 1
    assert (found.taken.words(), found.taken.why_not, found.taken.corrected) == ("all layers in int8", "", False)
    assert found.ranking == {}


def test_biases_are_corrected_first(vanishing: Workshop) -> None:
    found = vanishing.guard()
    assert found.attempts[0].why_not
    assert found.path
    assert found.taken.corrected
    assert found.taken.left_float == ()
    assert found.taken.found.parity.kl < 0.1 * found.attempts[0].found.parity.kl


def test_the_worst_layer_goes_back_to_float(outlier: Workshop) -> None:
    found = outlier.guard()
    assert found.attempts[0].why_not
    assert "biases corrected" in found.attempts[1].words()
    assert found.path
    assert len(found.taken.left_float) == 1
    convolutions = [node.name for node in onnx.load(outlier.quantizer.prepared).graph.node if node.op_type == "Conv"]
    assert found.taken.left_float == (convolutions[2],)
    assert next(iter(found.ranking)) == convolutions[2]
    # it reads a float input, so what makes that is float, too; the others are not
    model = onnx.load(found.path)
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    by_name = {node.name: made.get(node.input[1], "constant") for node in model.graph.node if node.op_type == "Conv"}
    assert by_name[convolutions[1]] == by_name[convolutions[2]] == "constant"
    assert by_name[convolutions[0]] == by_name[convolutions[3]] == "DequantizeLinear"
    onnx.checker.check_model(model, full_check=True)


def test_steps_back_to_as_few_layers_as_will_do(ordinary: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five of twelve layers are needed: 1, 2, 3, 4 and 5 in turn; eight: from 9 back to 8."""
    from kdedge.export import guard as module

    for needed, tried in ((5, [1, 2, 3, 4, 5]), (8, [1, 2, 3, 4, 5, 6, 8, 7]), (10, [1, 2, 3, 4, 5, 6, 8, 10, 9])):
        seen: list[int] = []

        class Search:
            limits = UNTIMED

            def in_time(self) -> bool:
                return True

            def try_(self, left: list[str], seen: list[int] = seen, needed: int = needed) -> tuple[Path, object]:
                seen.append(len(left))
                return Path(str(len(left))), _Attempt(len(left) < needed)

        path, _ = module._leave_out(Search(), [str(i) for i in range(24)], Path("0"), _Attempt(True))  # type: ignore[arg-type]
        assert seen == tried
        assert path == Path(str(needed))


class _Attempt:
    def __init__(self, bad: bool) -> None:
        self.found = _Found(bad)


class _Found:
    def __init__(self, bad: bool) -> None:
        self.drop = 9.0 if bad else 0.0
        self.parity = type("P", (), {"top1_agreement": 1.0, "embedding_cosine": None})()


def test_gives_up_where_nothing_helps(outlier: Workshop) -> None:
    found = outlier.guard(Limits(min_speedup=0.0, max_drop=-50.0))
    assert found.path is None
    assert "points of accuracy, at most -50 are allowed" in found.why_not
    assert len(found.attempts) >= 4


def test_the_search_is_bounded_in_time(outlier: Workshop) -> None:
    found = outlier.guard(Limits(min_speedup=0.0, seconds=0.0))
    assert found.path is None
    assert len(found.attempts) == 1
    assert "the search was stopped after 0 s" in found.why_not


def test_a_slow_file_is_refused(ordinary: Workshop) -> None:
    times = iter([Speed(0.8, 8.0, 10.0, 1), Speed(0.7, 7.0, 10.0, 1)])
    found = ordinary.guard(Limits(), lambda _: next(times))
    assert found.path is None
    assert found.why_not == "the int8 file is 0.80 times as fast as fp32 here, 1 times is asked"
    fast = ordinary.guard(Limits(), lambda _: Speed(1.5, 15.0, 10.0, 1))
    assert fast.path
    assert fast.taken.speed == Speed(1.5, 15.0, 10.0, 1)


def test_a_file_that_cannot_be_timed_is_not_refused(ordinary: Workshop) -> None:
    found = ordinary.guard(Limits(), lambda _: None)
    assert found.path
    assert found.taken.speed is None


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(min_agreement=1.01), "the same label as fp32, 101% are asked"),
        (Limits(min_cosine=1.01), "has embeddings of cosine"),
        (Limits(max_drop=-1.0), "at most -1 are allowed"),
    ],
)
def test_each_limit_has_its_words(limits: Limits, words: str, ordinary: Workshop) -> None:
    found = ordinary.guard().taken.found
    assert words in limits.why_not(found)
    assert UNTIMED.why_not(found) == ""


def test_layer_errors_are_those_of_the_layer_alone(outlier: Workshop) -> None:
    path = outlier.folder / "plain.onnx"
    outlier.quantizer.write(path, "minmax")
    errors = layer_errors(outlier.quantizer.prepared, path, outlier.images, PRE)
    names = outlier.quantizer.layers()
    assert {error.name for error in errors} == set(names)
    by_name = {error.name: error for error in errors}
    assert {errors[0].name, errors[1].name} == {names[1], names[2]}  # rounds the outlier's neighbours; reads them
    assert errors[1].noise > 20 * errors[2].noise
    assert by_name[names[0]].shift.shape == (16,)


def test_shift_is_the_mean_error_of_a_channel(vanishing: Workshop) -> None:
    """Against the loss computed by hand: 60 weights of 0.003 (k - 1.5), half a step and less, on inputs near 1."""
    path = vanishing.folder / "plain.onnx"
    vanishing.quantizer.write(path, "minmax")
    errors = {error.name: error for error in layer_errors(vanishing.quantizer.prepared, path, vanishing.images, PRE)}
    second = vanishing.quantizer.layers()[1]
    model = onnx.load(vanishing.quantizer.prepared)
    weight = next(
        onnx.numpy_helper.to_array(tensor)
        for node in model.graph.node
        if node.name == second
        for tensor in model.graph.initializer
        if tensor.name == node.input[1]
    )
    step = np.abs(weight).max((1, 2, 3), keepdims=True) / 127
    lost = (np.rint(weight / step) * step - weight).sum((1, 2, 3))
    np.testing.assert_allclose(errors[second].shift, lost, atol=0.03)
    assert np.abs(lost).max() > 0.15


def test_gain_is_the_divergence_that_goes_away(outlier: Workshop) -> None:
    path = outlier.folder / "plain.onnx"
    outlier.quantizer.write(path, "minmax")
    names = outlier.quantizer.layers()
    found = gains(outlier.quantizer.prepared, path, names, outlier.images, PRE)
    whole = outlier.judge.look(path).parity.kl
    assert max(found, key=lambda name: found[name]) == names[2]
    assert found[names[2]] > 0.5 * whole
    asked = iter([True, True, False])
    assert len(gains(outlier.quantizer.prepared, path, names, outlier.images, PRE, lambda: next(asked))) == 2


def test_makers_of_an_input_are_named(ordinary: Workshop) -> None:
    graph = onnx.load(ordinary.quantizer.prepared).graph
    names = [node.name for node in graph.node if node.op_type == "Conv"]
    made = with_makers(graph, [names[1]])
    assert made[0] == names[1]
    assert names[0] in made
    assert len(made) == 3  # the convolution before and its ReLU
    assert with_makers(graph, [names[0]]) == [names[0]]


def test_the_file_that_holds_with_fewest_layers_in_float_is_taken(
    outlier: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said of a file is what was measured of that file, also where the search went past it."""
    from kdedge.export import guard as module

    def past(search: module._Search, worst: list[str], path: Path, attempt: module.Attempt) -> tuple[Path, object]:
        search.try_(worst[:2])
        search.try_(worst[:1])
        return search.try_(worst[:3])

    monkeypatch.setattr(module, "_leave_out", past)
    found = outlier.guard()
    assert [len(attempt.left_float) for attempt in found.attempts[2:]] == [2, 1, 3]
    assert found.taken is found.attempts[3]
    assert found.path
    assert outlier.judge.look(found.path).parity == found.taken.found.parity


def test_a_fast_file_is_kept_while_the_search_goes_on(outlier: Workshop) -> None:
    """Accuracy alone narrows the search; a file that met both limits is not lost to a slower one with fewer layers."""
    speeds: list[Speed] = []

    def timing(path: Path) -> Speed:
        floats = sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)
        speeds.append(Speed(2.0 if not speeds else 0.5, 1.0, 1.0, floats))
        return speeds[-1]

    found = outlier.guard(Limits(), timing)
    assert found.path
    assert found.taken.speed == speeds[0]
