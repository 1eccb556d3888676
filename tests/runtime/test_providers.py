"""Providers: what was really made counts, not what was asked for. A fake onnxruntime plays machines that are not here."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from kdedge.errors import ModelError
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.providers import EXECUTION, Peek, attempts, provider_of
from kdedge.runtime.session import open_session
from tests.conftest import color_card, write_color_model

CPU, CUDA, TENSORRT, XNNPACK = (EXECUTION[name] for name in ("cpu", "cuda", "tensorrt", "xnnpack"))


class FakeSession:
    """A real session on the CPU that claims to have been made with something else."""

    def __init__(self, path: str, given: list[str], asked: list[Any], options: Any) -> None:
        self.real = onnxruntime.InferenceSession(path, options, providers=[CPU])
        self.given, self.asked, self.options = given, asked, options

    def get_providers(self) -> list[str]:
        return self.given

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


Machine = Callable[..., list[FakeSession]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Let onnxruntime list ``listed`` providers of which only ``real`` ones can be made."""

    def pretend(listed: list[str], real: list[str], broken: str = "") -> list[FakeSession]:
        made: list[FakeSession] = []
        true = onnxruntime.InferenceSession

        def session(path: str, options: Any, providers: list[Any], enable_fallback: int = 1) -> Any:
            names = [entry if isinstance(entry, str) else entry[0] for entry in providers]
            if names == [CPU]:
                return true(path, options, providers=providers)
            assert enable_fallback == 0, "onnxruntime prints on stdout and goes on with the CPU otherwise"
            if broken in names:
                raise RuntimeError("libbroken.so.8: cannot open shared object file\nand more")
            monkeypatch.setattr(onnxruntime, "InferenceSession", true)
            fake = FakeSession(path, [name for name in names if name in real], providers, options)
            monkeypatch.setattr(onnxruntime, "InferenceSession", session)
            made.append(fake)
            return fake

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        return made

    return pretend


def test_the_cpu_of_this_machine(color_model: Path) -> None:
    for provider in ("cpu", "auto"):
        with Classifier(color_model, provider=provider) as classifier:
            assert (classifier.provider, classifier.providers) == ("cpu", (CPU,))


def test_a_provider_that_loads_is_taken(color_model: Path, machine: Machine) -> None:
    machine([TENSORRT, CUDA, CPU], [CUDA, CPU])
    found = Classifier(color_model, provider="cuda")
    assert found.provider == "cuda"
    assert found.providers == (CUDA, CPU)
    assert found.predict(np.full((16, 16, 3), (255, 0, 0), np.uint8))[0].label == "red"


def test_a_listed_provider_that_does_not_load_is_an_error(color_model: Path, machine: Machine) -> None:
    machine([CUDA, CPU], [CPU])
    with pytest.raises(ModelError, match=r"^cuda cannot be had \(onnxruntime took cpu instead.*--allow-fallback"):
        open_session(color_model, provider="cuda")
    said: list[str] = []
    session = open_session(color_model, provider="cuda", allow_fallback=True, say=said.append)
    assert provider_of(session) == "cpu"
    assert len(said) == 1
    assert "cpu takes over" in said[0]


def test_a_provider_that_breaks_is_quoted(color_model: Path, machine: Machine) -> None:
    machine([CUDA, CPU], [CUDA, CPU], broken=CUDA)
    with pytest.raises(ModelError, match=r"libbroken\.so\.8.*kdedge doctor") as error:
        open_session(color_model, provider="cuda")
    assert "\n" not in str(error.value)


def test_a_provider_that_the_build_lacks(color_model: Path) -> None:
    with pytest.raises(ModelError, match=r"has no cuda \(it has cpu\); install onnxruntime-gpu"):
        Classifier(color_model, provider="cuda")
    said: list[str] = []
    with Classifier(color_model, provider="tensorrt", allow_fallback=True, say=said.append) as classifier:
        assert classifier.provider == "cpu"
    assert "has no tensorrt" in said[0]
    with pytest.raises(ModelError, match="'gpu' is not known; it is one of auto, cpu, cuda"):
        Classifier(color_model, provider="gpu")


@pytest.mark.parametrize(
    ("card", "listed", "expected"),
    [
        (Peek("input", (), "jetson", "int8"), [TENSORRT, CUDA, CPU], ["tensorrt", "cpu"]),
        (Peek("input", (), "jetson", "fp16"), [TENSORRT, CUDA, CPU], ["tensorrt", "cuda", "cpu"]),
        (Peek("input", (), "x86", "int8"), [TENSORRT, CUDA, CPU], ["cpu"]),
        (Peek("input", (), "x86", "fp32"), [CUDA, CPU], ["cuda", "cpu"]),
        (Peek("input", (), "x86", "fp32"), [XNNPACK, CPU], ["cpu"]),
        (None, [CPU], ["cpu"]),
    ],
)
def test_what_auto_tries(card: Peek | None, listed: list[str], expected: list[str]) -> None:
    assert attempts("auto", listed, False, card) == expected


def test_fallback_goes_down_step_by_step() -> None:
    assert attempts("tensorrt", [TENSORRT, CUDA, CPU], True) == ["tensorrt", "cuda", "cpu"]
    assert attempts("tensorrt", [CUDA, CPU], True) == ["cuda", "cpu"]
    assert attempts("cuda", [CPU], True) == ["cpu"]
    assert attempts("cpu", [CPU], True) == ["cpu"]


def test_auto_says_what_took_over(tmp_path: Path, machine: Machine) -> None:
    path = write_color_model(tmp_path / "a.onnx", color_card(target="x86", precision="fp32"))
    machine([CUDA, CPU], [CPU])
    said: list[str] = []
    assert Classifier(path, say=said.append).provider == "cpu"
    assert said[0].startswith("cuda cannot be had")


def test_tensorrt_gets_its_caches_and_one_profile(tmp_path: Path, machine: Machine) -> None:
    path = write_color_model(tmp_path / "a.onnx", color_card(target="jetson", precision="int8"))
    made = machine([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU])
    said: list[str] = []
    assert Classifier(path, say=said.append).provider == "tensorrt"
    (name, options), (second, _), (last, _) = made[0].asked
    assert (name, second, last) == (TENSORRT, CUDA, CPU)
    folder = Path(options["trt_engine_cache_path"])
    assert folder.is_dir()
    assert options["trt_timing_cache_path"] == str(folder)
    assert options["trt_int8_enable"] == options["trt_fp16_enable"] == "1"
    assert options["trt_profile_min_shapes"] == "input:1x3x16x16"
    assert options["trt_profile_max_shapes"] == "input:8x3x16x16"
    assert "takes minutes" in said[0]
    assert str(folder) in said[0]

    (folder / "engine_sm87.engine").write_bytes(b"engine")
    said.clear()
    Classifier(path, say=said.append)
    assert not said, "an engine that is there is not built again"

    fixed = write_color_model(tmp_path / "b.onnx", color_card(target="jetson", precision="fp32"), batch=2)
    Classifier(fixed, provider="tensorrt")
    options = made[-1].asked[0][1]
    assert "trt_profile_min_shapes" not in options
    assert options["trt_int8_enable"] == options["trt_fp16_enable"] == "0"
    assert Path(options["trt_engine_cache_path"]) != folder, "another model has another cache"


def test_xnnpack_has_the_threads_to_itself(color_model: Path, machine: Machine) -> None:
    made = machine([XNNPACK, CPU], [XNNPACK, CPU])
    assert Classifier(color_model, threads=3, provider="xnnpack").provider == "xnnpack"
    assert made[0].asked[0] == (XNNPACK, {"intra_op_num_threads": "3"})
    assert made[0].options.intra_op_num_threads == 1


def test_words_on_stdout_are_not_ours(
    color_model: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine([CUDA, CPU], [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn.so.9"), raising=False)
    open_session(color_model, provider="cuda")
    out, err = capsys.readouterr()
    assert not out
    assert "libcudnn" in err


def test_a_file_that_is_none(tmp_path: Path, machine: Machine) -> None:
    machine([CUDA, CPU], [CUDA, CPU])
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot load this file of 8 bytes"):
        open_session(tmp_path / "a.onnx", provider="cuda")


def test_provider_of_another_build() -> None:
    session = SimpleNamespace(get_providers=lambda: ["CoreMLExecutionProvider", CPU])
    assert provider_of(session) == "CoreMLExecutionProvider"
