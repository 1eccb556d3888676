"""The folder of TensorRT's engines: another file, runtime, TensorRT or GPU has another one."""

import ctypes
from pathlib import Path

import pytest

from kdedge.runtime import tensorrt_cache as cache


def test_a_folder_for_each_of_the_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "a.onnx"
    model.write_bytes(b"one")
    monkeypatch.setattr(cache, "tensorrt_version", lambda: "10.3.0")
    monkeypatch.setattr(cache, "gpu_name", lambda: "Orin (nvgpu)-8.7")
    first = cache.engine_folder(model, "1.23.0")
    assert first.is_dir()
    assert first == cache.engine_folder(model, "1.23.0")
    assert first.name.endswith("-ort1.23.0-trt10.3.0-Orin_nvgpu_8.7")
    found = {first, cache.engine_folder(model, "1.24.0")}
    monkeypatch.setattr(cache, "tensorrt_version", lambda: "")
    found.add(cache.engine_folder(model, "1.23.0"))
    monkeypatch.setattr(cache, "gpu_name", lambda: "")
    found.add(cache.engine_folder(model, "1.23.0"))
    model.write_bytes(b"two")
    found.add(cache.engine_folder(model, "1.23.0"))
    assert len(found) == 5


@pytest.mark.parametrize(
    ("number", "words"), [(8601, "8.6.1"), (8502, "8.5.2"), (100300, "10.3.0"), (101303, "10.13.3")]
)
def test_versions_before_and_after_ten(number: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def getInferLibVersion(self) -> int:
            return number

    monkeypatch.setattr(cache, "_load", lambda *names: Library())
    assert cache.tensorrt_version() == words


def test_the_gpu_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cuda:
        def cuInit(self, flags: int) -> int:
            return 0

        def cuDeviceGet(self, device: object, number: int) -> int:
            return 0

        def cuDeviceGetName(self, name: ctypes.Array[ctypes.c_char], size: int, device: object) -> int:
            name.value = b"Orin"
            return 0

        def cuDeviceGetAttribute(self, value: object, attribute: int, device: object) -> int:
            value._obj.value = {75: 8, 76: 7}[attribute]  # type: ignore[attr-defined]
            return 0

    monkeypatch.setattr(cache, "_load", lambda *names: Cuda())
    assert cache.gpu_name() == "Orin-8.7"
    monkeypatch.setattr(cache, "_load", lambda *names: None)
    assert cache.gpu_name() == ""
    assert cache.tensorrt_version() == ""


def test_an_engine_is_seen(tmp_path: Path) -> None:
    assert not cache.has_engine(tmp_path)
    (tmp_path / "TensorrtExecutionProvider_a_0_sm87.engine").touch()
    assert cache.has_engine(tmp_path)
