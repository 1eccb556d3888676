"""An onnxruntime session that uses the cores there really are and says plainly what is wrong with a file."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kdedge.errors import ModelError
from kdedge.runtime.providers import EXECUTION, Peek, attempts, describe, peek, provider_of, with_options
from kdedge.runtime.tensorrt_cache import has_engine

__all__ = ["cgroup_cores", "default_threads", "open_session", "physical_cores", "usable_cores"]

MOST_THREADS = 4
"""Small networks gain nothing from more threads, and a device has other things to do."""


def open_session(
    path: str | Path,
    threads: int | None = None,
    *,
    provider: str = "cpu",
    allow_fallback: bool = False,
    say: Callable[[str], None] | None = None,
) -> Any:
    """Load an ONNX file; :func:`kdedge.runtime.providers.provider_of` tells what the session was really made with.

    Args:
        path: the ``.onnx`` file.
        threads: threads inside an operator; None takes :func:`default_threads`.
        provider: ``cpu``, ``cuda``, ``tensorrt``, ``xnnpack``, or ``auto``, see :func:`kdedge.runtime.providers.attempts`.
        allow_fallback: whether the CPU may take over where the provider cannot be had.
        say: told in one line what takes long, and what took over from what; None keeps silent.

    Returns:
        An ``onnxruntime.InferenceSession``. A run that fails on a GPU raises, it does not go on on the CPU.

    Raises:
        ModelError: the file is missing, corrupt or too new for this onnxruntime; the provider cannot be had; or both
            onnxruntime wheels are installed.
    """
    path = Path(path)
    if threads is not None and threads < 1:
        raise ModelError(f"threads is {threads}; at least 1 is needed.")
    if not path.is_file():
        raise ModelError(f"{path}: no such model file.")
    _refuse_both_wheels()
    import onnxruntime

    available = onnxruntime.get_available_providers() if provider != "cpu" else [EXECUTION["cpu"]]
    seen: Peek | None = None
    if EXECUTION["cuda"] in available or EXECUTION["tensorrt"] in available:
        try:
            seen = peek(path, onnxruntime)
        except Exception as error:  # onnxruntime's errors have no common base but this one
            raise ModelError(_what_is_wrong(path, str(error), onnxruntime.__version__)) from error
    wanted = attempts(provider, available, allow_fallback, seen)
    if say and provider not in ("auto", wanted[0]):
        say(f"this onnxruntime has no {provider} (it has {describe(available)}); {wanted[0]} takes over")
    for number, name in enumerate(wanted):
        session, why = _create(path, name, threads or default_threads(), onnxruntime, seen, say)
        if session is not None:
            return session
        if number + 1 < len(wanted) and say:
            say(f"{name} cannot be had ({why}); {wanted[number + 1]} takes over")
    raise ModelError(
        f"{wanted[-1]} cannot be had ({why}); run 'kdedge doctor', choose another --provider, or let the CPU take over with "
        "--allow-fallback."
    )


def _create(
    path: Path, provider: str, threads: int, onnxruntime: Any, seen: Peek | None, say: Callable[[str], None] | None
) -> tuple[Any | None, str]:
    """A session made with the provider and nothing less, or why there is none."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1 if provider == "xnnpack" else threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = with_options(provider, path, threads, onnxruntime, seen)
    if provider == "tensorrt" and say:
        folder = providers[0][1]["trt_engine_cache_path"]
        if not has_engine(folder):
            say(
                f"TensorRT builds an engine for this file and GPU, which takes minutes the first time; kept in {folder}"
            )
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except Exception as error:  # as above
        if provider == "cpu":
            raise ModelError(_what_is_wrong(path, str(error), onnxruntime.__version__)) from error
        return None, _first(str(error))
    if (given := provider_of(session)) != provider:
        return None, f"onnxruntime took {given} instead; a library of {provider} is missing or too old"
    return session, ""


def _what_is_wrong(path: Path, message: str, runtime: str) -> str:
    first = _first(message)
    if "IR version" in message or "opset" in message.lower():
        return f"{path}: the file is newer than this onnxruntime {runtime}; update onnxruntime ({first})"
    size = path.stat().st_size
    return (
        f"{path}: onnxruntime {runtime} cannot load this file of {size:,} bytes, it may be corrupt or cut off ({first})"
    )


def _first(message: str) -> str:
    return message.strip().splitlines()[0] if message.strip() else "no reason given"


def _refuse_both_wheels() -> None:
    """The wheels write the same files, so one of them silently wins.

    Their metadata is looked for by name: importlib.metadata would add a tenth to the start of ``kdedge classify``.
    """
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise ModelError("onnxruntime is not installed; run 'pip install onnxruntime'.")
    if len(found := _wheels(Path(spec.origin).parents[1])) > 1:
        raise ModelError(
            f"{' and '.join(found)} are installed side by side and overwrite each other; run "
            f"'pip uninstall -y {' '.join(found)}' and then install the one you want "
            "('pip install onnxruntime' for the CPU, 'pip install onnxruntime-gpu' for a GPU)."
        )


_WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-gpu-tensorrt", "onnxruntime-directml", "onnxruntime-openvino")


def _wheels(site: Path) -> list[str]:
    return [name for name in _WHEELS if any(site.glob(f"{name.replace('-', '_')}-*.dist-info"))]


def default_threads() -> int:
    """Threads a session gets unless told otherwise: :func:`usable_cores`, at most 4."""
    return min(usable_cores(), MOST_THREADS)


def usable_cores() -> int:
    """Physical cores that this process may use, at least 1.

    The least of the machine's cores, the process's affinity and the cgroup's quota (what ``docker run --cpus`` sets);
    onnxruntime itself looks at the first two only.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    else:
        allowed = set(range(os.cpu_count() or 1))
    return max(1, int(min(physical_cores(allowed), cgroup_cores())))


def physical_cores(cpus: set[int], system: Path = Path("/sys/devices/system/cpu")) -> int:
    """How many physical cores the logical ``cpus`` belong to; all count where the system does not say."""
    try:
        return len({(system / f"cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in cpus})
    except OSError:
        return len(cpus)


def cgroup_cores(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """The cgroup's limit in cores, version 1 or 2; infinity where there is none."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    limits = [float("inf")]
    for line in ["0::/", "0:cpu:/", *lines]:
        _, controllers, below = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = root / "cpu" if controllers else root
        parts = Path(below.lstrip("/")).parts
        for depth in range(len(parts) + 1):  # a parent's limit holds too
            limits.append(_limit(folder.joinpath(*parts[:depth])))
    return min(limits)


def _limit(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return float("inf")
    try:
        cores = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return float("inf")
    return cores if cores > 0 else float("inf")  # -1 means no limit in version 1
