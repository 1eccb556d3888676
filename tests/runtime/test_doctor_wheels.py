"""Wheels, imports and providers, as good as the probes tell; real libraries' words are quoted from real failures."""

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from kdedge.runtime.doctor import providers as doctor_providers
from kdedge.runtime.doctor import python as doctor_python
from kdedge.runtime.doctor.attempt import Outcome, attempt
from kdedge.runtime.doctor.check import version_tuple
from kdedge.runtime.doctor.probe import tiny_model
from kdedge.runtime.doctor.reasons import explain_import, explain_provider, missing_libraries
from tests.conftest import environment
from tests.runtime.machines import JETSON, machine

CUDA_LOG = """Failed to load libcublasLt.so.13: libcublasLt.so.13: cannot open shared object file: No such file or directory
\x1b[1;31m2026-11-25 23:35:56 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] Failed to load library \
/x/onnxruntime/capi/libonnxruntime_providers_cuda.so with error: libcudnn.so.9: cannot open shared object file: No such file
"""


def test_the_tiny_model_is_onnx_and_gives_its_channel(tmp_path: Path) -> None:
    onnx.checker.check_model(onnx.load_from_string(tiny_model()), full_check=True)
    session = onnxruntime.InferenceSession(tiny_model(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})
    assert found.shape == (1, 4, 6, 6)
    np.testing.assert_allclose(found[0, :, 2, 3], [1, 2, 3, 4], atol=1e-5)


def test_oldest_versions_are_those_of_pyproject() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = dict(text.split(">=") for text in project["dependencies"] if ">=" in text and "," not in text)
    for module, wheel in (("numpy", "numpy"), ("cv2", "opencv-python"), ("onnxruntime", "onnxruntime")):
        assert doctor_python.LEAST[module] == version_tuple(wanted[wheel]), module
    oldest = version_tuple(project["requires-python"].removeprefix(">="))
    assert oldest == doctor_python.OLDEST_PYTHON
    for extra, modules in doctor_python.EXTRAS.items():
        names = {re.split(r"[>=<]", text)[0].replace("-", "_") for text in project["optional-dependencies"][extra]}
        imported = {"sklearn": "scikit_learn", "multipart": "python_multipart"}
        assert {imported.get(name, name) for name in modules} <= names


@pytest.mark.parametrize(
    ("text", "numbers"), [("1.32.0", (1, 32, 0)), ("2.0.0rc1", (2, 0, 0)), ("5.0.0-dev", (5, 0, 0)), ("x", ())]
)
def test_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert version_tuple(text) == numbers


@pytest.mark.parametrize(
    ("module", "wheels"),
    [("onnxruntime", ("onnxruntime", "onnxruntime-gpu")), ("cv2", ("opencv-python", "opencv-contrib-python-headless"))],
)
def test_two_wheels_of_a_kind_are_a_problem_with_its_fix(module: str, wheels: tuple[str, ...]) -> None:
    found = doctor_python.check_wheels(module, dict.fromkeys(wheels, "1.0"))
    assert found is not None
    assert found.status == "problem"
    assert found.advice.startswith(f"pip uninstall -y {' '.join(wheels)}; then 'pip install ")
    assert doctor_python.check_wheels(module, {wheels[1]: "1.0", "numpy": "2"}) is None


def test_both_wheels_are_found_by_their_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime_gpu-1.31.1.dist-info").mkdir()
    (tmp_path / "onnxruntime_gpu-1.31.1.dist-info/METADATA").write_text("Name: onnxruntime-gpu\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = doctor_python.check_wheels("onnxruntime", doctor_python.installed())
    assert found is not None
    assert "onnxruntime-gpu 1.31.1" in found.found


@pytest.mark.parametrize(
    ("module", "text", "found", "advice"),
    [
        ("numpy", "ModuleNotFoundError: No module named 'numpy'", "not installed", "pip install numpy"),
        ("cv2", "ModuleNotFoundError: No module named 'cv2'", "not installed", "pip install opencv-python"),
        ("cv2", "ModuleNotFoundError: No module named 'numpy'", "numpy is not installed", "pip install numpy"),
        ("onnxruntime", "ImportError: import numpy failed", "numpy is not installed", "pip install numpy"),
        ("cv2", "ImportError: libGL.so.1: cannot open shared object file", "libGL.so.1 is missing", "libgl1"),
        (
            "cv2",
            "ImportError: numpy.core.multiarray failed to import",
            "another NumPy",
            "--upgrade opencv-python numpy",
        ),
        ("numpy", "ended by SIGILL: an instruction", "SIGILL", "older numpy"),
        ("onnxruntime", "ImportError: DLL load failed while importing", "DLL load failed", "Visual C++"),
        ("onnxruntime", "/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found", "newer Linux", "older version"),
        ("onnxruntime", "ValueError: strange", "import fails: ValueError: strange", "--force-reinstall onnxruntime"),
    ],
)
def test_reasons_of_failed_imports(tmp_path: Path, module: str, text: str, found: str, advice: str) -> None:
    reason, way = explain_import(module, text, machine(tmp_path))
    assert found in reason
    assert advice in way


def test_missing_libraries_are_quoted(tmp_path: Path) -> None:
    assert missing_libraries(CUDA_LOG) == ["libcublasLt.so.13", "libcudnn.so.9"]
    dll = '[E] LoadLibrary failed with error 126 ... which depends on "cublasLt64_12.dll" which is missing. (Error 126)'
    assert missing_libraries(dll) == ["cublasLt64_12.dll"]
    reason, advice = explain_provider(CUDA_LOG, machine(tmp_path))
    assert "libcublasLt.so.13, libcudnn.so.9 are missing" in reason
    assert "onnxruntime-gpu[cuda,cudnn]" in advice
    assert "another JetPack" in explain_provider(CUDA_LOG, machine(tmp_path, JETSON))[1]


@pytest.mark.parametrize(
    ("text", "found", "advice"),
    [
        ("libnvinfer.so.10: cannot open shared object file", "libnvinfer.so.10 is missing", "TensorRT 10"),
        ("RuntimeError: Please install TensorRT libraries as mentioned", "TensorRT's libraries", "LD_LIBRARY_PATH"),
        ("libcuda.so.1: cannot open shared object file", "libcuda.so.1 is missing", "driver"),
        ("cudaErrorNoKernelImageForDevice: no kernel image is available", "no code for this GPU", "--provider cpu"),
        ("CUDA failure 35: CUDA driver version is insufficient for", "driver is older", "driver"),
        ("CUDA failure 100: no CUDA-capable device is detected", "sees no GPU", "nvidia-smi"),
        ("something new", "something new", "--provider cpu"),
    ],
)
def test_reasons_of_providers(tmp_path: Path, text: str, found: str, advice: str) -> None:
    reason, way = explain_provider(text, machine(tmp_path))
    assert found in reason
    assert advice in way


class Fake:
    """A probe whose answers are given."""

    def __init__(self, **answers: Outcome) -> None:
        self.answers = answers

    def __call__(self, kind: str, *arguments: str, timeout: float, environ: object) -> Outcome:
        return self.answers["_".join((kind, *arguments))]


GOOD = Outcome({"provider": "cuda", "right": True, "seconds": 0.5})
BAD = Outcome({}, "ModelError: cuda cannot be had", CUDA_LOG)
LISTED = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("cuda", "tensorrt", "gpu", "expected"),
    [
        (GOOD, GOOD, True, ["ok", "ok", "ok"]),
        (GOOD, BAD, True, ["ok", "ok", "info"]),
        (BAD, BAD, True, ["ok", "problem", "problem"]),
        (BAD, BAD, False, ["ok", "warn", "warn"]),
        (Outcome({"provider": "cuda", "right": False, "seconds": 1.0}), GOOD, True, ["ok", "problem", "ok"]),
    ],
)
def test_providers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: Outcome, tensorrt: Outcome, gpu: bool, expected: list[str]
) -> None:
    fake = Fake(provider_cpu=GOOD, provider_cuda=cuda, provider_tensorrt=tensorrt)
    monkeypatch.setattr(doctor_providers, "attempt", fake)
    here = machine(tmp_path, {"dev/nvidia0": ""} if gpu else {}, arch="x86_64")
    said: list[str] = []
    found = list(doctor_providers.check_providers(LISTED, here, said.append))
    assert [check.status for check in found] == expected
    assert [check.name for check in found] == ["provider cpu", "provider cuda", "provider tensorrt"]
    assert bool(said) == (cuda is GOOD)


def test_a_jetson_with_the_wheel_for_the_cpu_is_warned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_providers, "attempt", Fake(provider_cpu=GOOD))
    names = ["AzureExecutionProvider", "CPUExecutionProvider"]
    found = list(doctor_providers.check_providers(names, machine(tmp_path, JETSON), lambda line: None))
    assert [(check.name, check.status) for check in found] == [
        ("provider cpu", "ok"),
        ("other providers", "info"),
        ("provider tensorrt", "warn"),
    ]


@pytest.mark.parametrize(
    ("value", "status", "words"),
    [
        ({"version": "1.19.2", "file": "", "works": True}, "problem", "needs 1.20 or newer"),
        ({"version": "1.32.0", "file": "", "works": False}, "problem", "nonsense"),
        ({"version": "1.32.0", "file": "", "works": True}, "ok", "1.32.0 (onnxruntime-gpu)"),
    ],
)
def test_versions_of_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: dict[str, object], status: str, words: str
) -> None:
    monkeypatch.setattr(doctor_python, "attempt", Fake(onnxruntime=Outcome(value)))
    found, _ = doctor_python.check_import("onnxruntime", {"onnxruntime-gpu": "1.32.0"}, machine(tmp_path))
    assert found.status == status
    assert words in found.found


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "ended by SIGILL: it met an instruction"),
        ("import os; os._exit(3)", "exit code 3"),
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "libGL.so.1"),
        ("import time; time.sleep(60)", "no answer within 1 s"),
        ("import sys; sys.stdout.write('noise without an end')", "AttributeError"),
    ],
)
def test_a_module_that_crashes_hangs_or_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    (tmp_path / "onnxruntime.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    outcome = attempt("onnxruntime", timeout=1 if "sleep" in code else 60, environ=environment())
    assert words in outcome.error
    assert not outcome.value


@pytest.mark.parametrize(
    ("bits", "version", "status"), [(64, (3, 11, 7), "ok"), (32, (3, 11, 7), "problem"), (64, (3, 10, 12), "problem")]
)
def test_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, version: tuple[int, int, int], status: str
) -> None:
    class Version(tuple[int, int, int]):
        major, minor, micro = version

    monkeypatch.setattr(sys, "version_info", Version(version))
    assert doctor_python.check_python(machine(tmp_path, bits=bits)).status == status


def test_another_kdedge_than_the_one_that_runs() -> None:
    assert doctor_python.check_kdedge({"kdedge": "0.0.1"}).status == "warn"
    assert doctor_python.check_kdedge({}).status == "ok"
    assert doctor_python.check_kdedge({}).details["path"] == str(Path(__file__).parents[2] / "kdedge")
