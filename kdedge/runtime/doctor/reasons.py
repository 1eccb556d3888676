"""Why a library does not load: what onnxruntime, OpenCV and the loader say, told in words with a way out."""

import re

from kdedge.runtime.doctor.check import Machine

__all__ = ["explain_import", "explain_provider", "missing_libraries"]

_MISSING = re.compile(r"(lib[\w.+-]+?\.so(?:\.\d+)*): cannot open shared object file")
_MISSING_DLL = re.compile(r'depends on "([^"]+\.dll)" which is missing')
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")

CUDA = ("libcublas", "libcudart", "libcufft", "libcurand", "libnvrtc", "cublas", "cudart", "cufft", "curand", "nvrtc")
CUDNN = ("libcudnn", "cudnn")
TENSORRT = ("libnvinfer", "libnvonnxparser", "nvinfer", "nvonnxparser")

SAID = (
    (r"no kernel image|cudaErrorNoKernelImageForDevice", "the wheel has no code for this GPU", "wheel"),
    (r"driver version is insufficient|CUDA failure 35\b", "the GPU's driver is older than the wheel's CUDA", "driver"),
    (r"no CUDA-capable device|CUDA failure 100\b", "CUDA sees no GPU", "gpu"),
    (r"out of memory|CUDA failure 2\b|CUDNN_STATUS_ALLOC_FAILED", "the GPU has no memory left", "memory"),
    (r"GLIBC(?:XX)?_[\d.]+' not found", "the wheel needs a newer Linux than this one", "linux"),
)


def missing_libraries(text: str) -> list[str]:
    """Names of the shared libraries that a loader missed, each once, in the order told."""
    plain = _ESCAPES.sub("", text)
    return list(dict.fromkeys([*_MISSING.findall(plain), *_MISSING_DLL.findall(plain)]))


def explain_provider(text: str, machine: Machine) -> tuple[str, str]:
    """Why CUDA or TensorRT cannot be had, and what to do.

    Args:
        text: the error and everything on stderr.
        machine: the advice for a Jetson is another one.
    """
    if libraries := missing_libraries(text):
        names = ", ".join(libraries)
        reason = f"{names} {'is' if len(libraries) == 1 else 'are'} missing"
        if "libcuda.so.1" in libraries:
            return reason, _advice("driver", machine)
        if any(name.startswith((*CUDA, *CUDNN)) for name in libraries):
            return reason, _cuda(libraries, machine)
        if any(name.startswith(TENSORRT) for name in libraries):
            return reason, _tensorrt(libraries, machine)
        return reason, f"install the package that has {libraries[0]}, or put its folder on LD_LIBRARY_PATH"
    for pattern, reason, kind in SAID:
        if re.search(pattern, text):
            return reason, _advice(kind, machine)
    if "TensorRT libraries" in text:
        return "TensorRT's libraries are missing", _tensorrt([], machine)
    first = _first(text)
    return first, "look the message up, or leave this provider out with --provider cpu"


def _cuda(libraries: list[str], machine: Machine) -> str:
    if machine.jetson:
        return (
            "this wheel was built for another JetPack (its CUDA or cuDNN is not the one here); take one for yours: "
            "docs/jetson.md"
        )
    kind = "CUDA" if any(name.startswith(CUDA) for name in libraries) else "cuDNN"
    number = next((found[1] for name in libraries if (found := re.search(r"\.so\.(\d+)", name))), "")
    version = f" {number}" if number and kind == "cuDNN" else ""
    return (
        f"pip install 'onnxruntime-gpu[cuda,cudnn]' brings {kind}{version} as wheels; or install NVIDIA's {kind} in "
        "the version this wheel names"
    )


def _tensorrt(libraries: list[str], machine: Machine) -> str:
    number = next((found[1] for name in libraries if (found := re.search(r"\.so\.(\d+)", name))), "")
    version = f"TensorRT {number}" if number else "TensorRT"
    if machine.jetson:
        return f"sudo apt install nvidia-jetpack brings TensorRT; the wheel must be for its version ({version}): docs/jetson.md"
    return f"only --provider tensorrt needs it: install {version} and put its libraries on LD_LIBRARY_PATH"


def _advice(kind: str, machine: Machine) -> str:
    wheel = "take a wheel for your JetPack: docs/jetson.md" if machine.jetson else "update onnxruntime-gpu, or build it"
    return {
        "wheel": f"{wheel}; until then --provider cpu",
        "driver": "install or update NVIDIA's driver; in a container start it with --gpus all (Jetson: --runtime nvidia)",
        "gpu": "look at nvidia-smi; in a container start it with --gpus all (Jetson: --runtime nvidia)",
        "memory": "end what else uses the GPU, or take --provider cpu",
        "linux": "take an older version of this wheel, or a newer system; a container with a newer Linux does, too",
    }[kind]


def explain_import(module: str, text: str, machine: Machine) -> tuple[str, str]:
    """Why ``import numpy``, ``cv2`` or ``onnxruntime`` fails, and what to do.

    Args:
        module: its name.
        text: the error and everything on stderr.
        machine: where it was tried.
    """
    wheel = {"cv2": "opencv-python"}.get(module, module)
    again = f"pip install --force-reinstall {wheel}"
    if re.search(rf"No module named '{module}'", text):
        return "not installed", f"pip install {wheel}"
    if (other := re.search(r"No module named '(\w+)'", text)) or "import numpy failed" in text:
        name = other[1] if other else "numpy"
        return f"import fails: {name} is not installed", f"pip install {name}"
    if libraries := missing_libraries(text):
        reason = f"import fails: {', '.join(libraries)} is missing"
        if module == "cv2":
            return reason, (
                "sudo apt install libgl1 libglib2.0-0; or, on a machine without a screen, pip uninstall -y opencv-python and "
                "pip install opencv-python-headless"
            )
        return reason, f"install the system's package that has {libraries[0]}"
    if (
        "compiled using NumPy 1" in text
        or "numpy.core.multiarray failed" in text
        or "numpy._core.multiarray failed" in text
    ):
        return "built for another NumPy than the one installed", f"pip install --upgrade {wheel} numpy"
    if "SIGILL" in text:
        return _first(text), f"install an older {wheel}, or build it on this machine"
    if "DLL load failed" in text:
        return _first(text), "install Microsoft's Visual C++ Redistributable (x64)"
    if "incompatible architecture" in text or "wrong ELF class" in text or "invalid ELF header" in text:
        return "the installed wheel is for another processor", again
    if re.search(r"GLIBC(?:XX)?_[\d.]+' not found", text):
        return "the wheel needs a newer Linux than this one", _advice("linux", machine)
    return f"import fails: {_first(text)}", again


def _first(text: str) -> str:
    lines = [line.strip() for line in _ESCAPES.sub("", text).strip().splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
