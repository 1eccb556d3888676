"""Run a part of :mod:`kdedge.runtime.doctor.probe` in a process of its own, and say in words how it ended."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdedge.runtime.doctor.probe import MARK

__all__ = ["Outcome", "attempt", "reason_of"]

SIGNALS = {
    "SIGILL": "it met an instruction that this processor does not have; the wheel needs a newer one",
    "SIGKILL": "the system ended it, most often for want of memory",
    "SIGBUS": "a bus error; a wheel for another processor, or a full disk",
    "SIGSEGV": "a crash inside a library",
    "SIGABRT": "a library gave up",
}

WINDOWS = {0xC0000005: "SIGSEGV", 0xC000001D: "SIGILL"}
"""Exit codes of Windows that mean what these signals do."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        value: what it answered; empty if it failed.
        error: why it failed, in one line; empty if it did not.
        log: what it printed on stderr.
    """

    value: Mapping[str, Any]
    error: str = ""
    log: str = ""


def attempt(kind: str, *arguments: str, timeout: float, environ: Mapping[str, str]) -> Outcome:
    """Run one probe with this process's ``sys.path``.

    Args:
        kind: a key of :data:`kdedge.runtime.doctor.probe.KINDS`.
        arguments: of that probe.
        timeout: seconds after which it is ended.
        environ: environment variables of the new process.
    """
    words = [kind, *arguments]
    code = f"import sys; sys.path[:] = {sys.path!r}; from kdedge.runtime.doctor.probe import main; main({words!r})"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=dict(environ),
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as late:
        log = late.stderr.decode(errors="replace") if isinstance(late.stderr, bytes) else late.stderr or ""
        return Outcome({}, f"no answer within {timeout:g} s", log)
    except OSError as error:
        return Outcome({}, f"{sys.executable} cannot be started ({error})")
    answers = [line[len(MARK) :] for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not answers:
        return Outcome({}, _ending(done.returncode, done.stderr), done.stderr)
    value = json.loads(answers[-1])
    if failure := value.get("error"):
        return Outcome({}, " ".join(str(failure).split()), done.stderr)
    return Outcome(value, "", done.stderr)


def _ending(code: int, log: str) -> str:
    if code in WINDOWS:
        return f"ended by {WINDOWS[code]}: {SIGNALS[WINDOWS[code]]}"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"ended by {name}: {SIGNALS.get(name, 'a crash inside a library')}"
    last = log.strip().splitlines()[-1:] or ["it said nothing"]
    return f"exit code {code}: {last[0]}"


def reason_of(outcome: Outcome) -> str:
    """Everything an attempt said of its failure: its error, then its log."""
    return f"{outcome.error}\n{outcome.log}"
