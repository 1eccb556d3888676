"""``kdedge doctor``: look at everything that has ever been in the way, on a machine that may be broken.

Neither NumPy nor OpenCV nor onnxruntime is imported here: each is tried in a process of its own, which may crash or hang.
"""

from collections.abc import Callable, Generator, Iterable, Iterator

from kdedge.runtime.doctor import board as doctor_board
from kdedge.runtime.doctor import camera as doctor_camera
from kdedge.runtime.doctor import memory as doctor_memory
from kdedge.runtime.doctor import processor as doctor_processor
from kdedge.runtime.doctor import providers as doctor_providers
from kdedge.runtime.doctor import python as doctor_python
from kdedge.runtime.doctor.check import Check, Machine
from kdedge.runtime.doctor.model import check_model

__all__ = ["WIDEST", "Check", "Machine", "examine"]

WIDEST = 20
"""Letters of the longest name of a check."""


def examine(
    machine: Machine | None = None,
    *,
    model: str | None = None,
    camera: str | None = None,
    probe: bool = True,
    say: Callable[[str], None] = lambda _line: None,
) -> Iterator[Check]:
    """Yield one finding after the other; a check that fails itself becomes a finding, too.

    Args:
        machine: where to look; None is this machine.
        model: what to try, as ``--model`` takes it; None is the default model.
        camera: number of a camera to take frames of; None takes none.
        probe: whether to import, load and run things in other processes; without, files alone are read.
        say: told before something that takes long.
    """
    machine = machine or Machine()
    found = doctor_python.installed()
    yield from _guarded("Python", lambda: [doctor_python.check_python(machine)])
    yield from _guarded("kdedge", lambda: [doctor_python.check_kdedge(found)])
    broken = yield from _wheels(machine, found, probe, say)
    yield from _guarded("extras", doctor_python.check_extras)

    yield from _guarded("processor", lambda: [doctor_processor.check_cpu(machine)])
    vnni: bool | None = None
    for check in _guarded("instructions", lambda: [doctor_processor.check_instructions(machine)]):
        flags = check.details.get("flags", [])
        if not machine.arm and flags:
            vnni = bool({"avx512_vnni", "avx_vnni"} & set(flags))
        yield check
    yield from _guarded("threads", lambda: [doctor_processor.check_threads(machine)])
    yield from _guarded("speed", lambda: [doctor_processor.check_frequency(machine)])
    yield from _guarded("temperature", lambda: doctor_board.check_temperature(machine))
    yield from _guarded("memory", lambda: [doctor_memory.check_memory(machine)])
    yield from _guarded("cache", lambda: [doctor_memory.check_disk()])
    yield from _guarded("clock", lambda: [doctor_processor.check_clock(machine)])

    yield from _guarded("Jetson", lambda: doctor_board.check_jetson(machine))
    yield from _guarded("Raspberry Pi", lambda: doctor_board.check_pi(machine))
    yield from _guarded("container", lambda: doctor_board.check_container(machine))
    yield from _guarded("GPU", lambda: doctor_board.check_gpu(machine))
    yield from _guarded("cameras", lambda: doctor_camera.check_cameras(machine))
    if camera is not None:
        yield from _guarded(f"camera {camera}", lambda: [doctor_camera.grab(camera, machine)])
    if probe and not broken:
        if machine.jetson:
            say("trying the model; TensorRT may build its engine first, which takes minutes ...")
        yield from _guarded("model", lambda: [check_model(model, machine, vnni)])


def _wheels(
    machine: Machine, found: dict[str, str], probe: bool, say: Callable[[str], None]
) -> Generator[Check, None, bool]:
    """Findings about NumPy, OpenCV, onnxruntime and its providers; returns whether the model cannot run anyway."""
    broken = False
    listed: list[str] = []
    for module in ("numpy", "cv2", "onnxruntime"):
        twice = doctor_python.check_wheels(module, found) if module in doctor_python.FLAVOURS else None
        if twice:
            broken = broken or module == "onnxruntime"
            yield twice
        if not probe:
            yield doctor_python.check_installed(module, found)
            continue
        try:
            check, outcome = doctor_python.check_import(module, found, machine)
        except Exception as error:  # see _guarded
            check, outcome = _failed(module, error), None
        broken = broken or check.status == "problem"
        yield check
        if module == "onnxruntime" and outcome and outcome.value and not twice:
            listed = list(outcome.value["providers"])
    if listed:
        yield from _guarded("providers", lambda: doctor_providers.check_providers(listed, machine, say))
    return broken


def _guarded(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The findings of one check; if it fails, that is a finding: a doctor who faints helps nobody."""
    try:
        yield from look()
    except Exception as error:
        yield _failed(name, error)


def _failed(name: str, error: Exception) -> Check:
    text = f"this check itself failed: {type(error).__name__}: {error}"
    return Check(name, "warn", text, "report this, with the output of kdedge doctor --json")
