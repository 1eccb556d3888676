"""Execution providers that really load: each makes a session in a process of its own and runs it."""

from collections.abc import Callable, Iterator, Sequence

from kdedge.runtime.doctor.attempt import attempt, reason_of
from kdedge.runtime.doctor.check import Check, Machine
from kdedge.runtime.doctor.reasons import explain_provider
from kdedge.runtime.providers import EXECUTION

__all__ = ["check_provider", "check_providers"]

PATIENCE = {"cpu": 60.0, "xnnpack": 60.0, "cuda": 120.0, "tensorrt": 600.0}
"""Seconds; TensorRT builds an engine first."""


def check_providers(listed: Sequence[str], machine: Machine, say: Callable[[str], None]) -> Iterator[Check]:
    """A finding for every provider this onnxruntime lists.

    Args:
        listed: what ``onnxruntime.get_available_providers()`` gives.
        machine: where.
        say: told before something that takes long.
    """
    ours = [name for name, theirs in EXECUTION.items() if theirs in listed]
    loaded = []
    for name in ours:
        if name == "tensorrt" and (machine.jetson or "cuda" in loaded):
            say("trying TensorRT; it builds an engine of a toy network, which may take a minute ...")
        check = check_provider(name, machine, any_gpu="cuda" in loaded)
        if check.status == "ok":
            loaded.append(name)
        yield check
    if others := [name for name in listed if name not in EXECUTION.values()]:
        words = ", ".join(name.removesuffix("ExecutionProvider") for name in others)
        yield Check("other providers", "info", f"{words} (kdedge does not use them)", "", {"listed": others})
    if machine.jetson and "tensorrt" not in ours:
        yield Check(
            "provider tensorrt",
            "warn",
            "this onnxruntime was built without it: int8 will not use the GPU",
            "take a wheel for your JetPack: docs/jetson.md",
        )


def check_provider(name: str, machine: Machine, any_gpu: bool = False) -> Check:
    """Let one provider run a convolution whose answer is known.

    Args:
        name: ``cpu``, ``cuda``, ``tensorrt`` or ``xnnpack``.
        machine: where.
        any_gpu: whether CUDA has loaded already; TensorRT is then a matter of choice.
    """
    title = f"provider {name}"
    outcome = attempt("provider", name, timeout=PATIENCE[name], environ=machine.environ)
    details = {**outcome.value, "error": outcome.error or None}
    if not outcome.error:
        if not outcome.value["right"]:
            return Check(title, "problem", "loads, but computes nonsense", "leave it out: --provider cpu", details)
        return Check(
            title, "ok", f"loads and computes ({outcome.value['seconds'] * 1000:.0f} ms for a toy network)", "", details
        )
    reason, advice = explain_provider(reason_of(outcome), machine)
    text = f"listed, but does not load: {reason}"
    if name == "cpu":
        return Check(title, "problem", f"does not load: {reason}", "pip install --force-reinstall onnxruntime", details)
    if name == "xnnpack":
        return Check(title, "warn", text, advice, details)
    if name == "tensorrt" and any_gpu and not machine.jetson:
        return Check(title, "info", text, advice, details)
    if has_nvidia(machine):
        return Check(title, "problem", text, advice, details)
    advice = (
        "no NVIDIA GPU is seen here, so everything runs on the CPU; 'pip install onnxruntime' is the smaller wheel then"
    )
    return Check(title, "warn", text, advice, details)


def has_nvidia(machine: Machine) -> bool:
    """Whether an NVIDIA GPU is in this machine."""
    return machine.jetson or machine.path("/dev/nvidia0").exists() or machine.call(["nvidia-smi", "-L"])[0] == 0
