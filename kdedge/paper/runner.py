"""One cell a method and seed: run what is missing, keep what is done, refuse what was made with other settings."""

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from kdedge.errors import KdedgeError, RunError
from kdedge.files import write_json
from kdedge.paper.plan import Method, Plan

__all__ = ["Cell", "Execute", "Outcome", "Unavailable", "read_cells", "run_cells"]

FORMAT = 1
Say = Callable[[str], None]


class Unavailable(KdedgeError):
    """A method cannot be run here (its published weights are out of reach, say); its row says so."""


@dataclass(frozen=True)
class Outcome:
    """What a method returns.

    Attributes:
        scores: ``train_`` and ``test_`` + f1, precision, recall (macro) and accuracy, 0-1; pre-training ones as they are called
            (``heldout_r2``, ...).
        history: records of the training, with ``epoch``.
        about: plain facts for the notes: input size, steps, parameters.
    """

    scores: Mapping[str, float]
    history: list[dict[str, Any]] = field(default_factory=list)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A finished method and seed; ``unavailable`` holds the reason where it could not be run."""

    method: str
    seed: int
    key: str
    outcome: Outcome
    seconds: float = 0.0
    unavailable: str = ""


Execute = Callable[[Method, int, Path], Outcome]
"""Method, seed and the cell's own empty folder (for weights) to the outcome; may raise :class:`Unavailable`."""


def run_cells(
    plan: Plan,
    out: Path,
    data: Mapping[str, Any],
    execute: Execute,
    *,
    resume: bool = False,
    recompute: bool = False,
    say: Say = print,
) -> list[Cell]:
    """Run the plan's cells in order.

    A cell is ``out/cells/METHOD-seedN/cell.json``, written once it is done; its key covers the plan's settings for it, ``data``
    and the keys of the methods it needs. Unavailable cells are tried again.

    Args:
        data: what identifies the images (JSON values).
        resume: take finished cells as they are; without it a folder with cells is refused.
        recompute: with ``resume``, replace cells that were made with other settings instead of refusing them.

    Raises:
        RunError: ``out`` has cells and no resume was asked for, or a cell was made with other settings.
    """
    home = out / "cells"
    if home.is_dir() and any(home.iterdir()) and not resume:
        raise RunError(f"{out}: holds cells of earlier tables; go on with --resume, or name another --out.")
    keys: dict[tuple[str, int], str] = {}
    wanted: list[tuple[Method, int, dict[str, Any]]] = []
    for method in plan.methods:
        for seed in plan.seeds_of(method):
            settings = _settings(plan, method, seed, data, keys)
            keys[method.name, seed] = _key(settings)
            wanted.append((method, seed, settings))
    done = {(m.name, s): _finished(home, m, s, settings, recompute) for m, s, settings in wanted}
    cells: list[Cell] = []
    gone: dict[str, str] = {}
    for number, (method, seed, settings) in enumerate(wanted, 1):
        cell = done[method.name, seed]
        where = f"[{number}/{len(wanted)}] {method.name}, seed {seed}"
        if cell is None:
            lost = next((gone[name] for name in (method.name, *method.needs) if name in gone), None)
            cell = _run(home, method, seed, settings, execute, where, lost, say)
            if cell.unavailable:
                gone[method.name] = cell.unavailable
        else:
            say(f"{where}: finished before")
        cells.append(cell)
    return cells


def _settings(
    plan: Plan, method: Method, seed: int, data: Mapping[str, Any], keys: Mapping[tuple[str, int], str]
) -> dict[str, Any]:
    needed = {
        name: keys[name, seed if seed in plan.seeds_of(plan.method(name)) else plan.seeds[0]] for name in method.needs
    }
    settings = {**plan.settings(method, seed), "data": dict(data), "needed": needed, "format": FORMAT}
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _key(settings: Mapping[str, Any]) -> str:
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]


def _folder(home: Path, method: str, seed: int) -> Path:
    return home / f"{method}-seed{seed}"


def _finished(home: Path, method: Method, seed: int, settings: Mapping[str, Any], recompute: bool) -> Cell | None:
    """The cell on disk; None if it has to be run."""
    file = _folder(home, method.name, seed) / "cell.json"
    if not file.is_file():
        return None
    cell, made_with = _read(file)
    if cell.key == _key(settings):
        return None if cell.unavailable else cell
    if recompute:
        return None
    changed = [name for name in settings if settings[name] != made_with.get(name)]
    raise RunError(
        f"{file.parent}: was made with other settings ({_differences(made_with, settings, changed)}); give --recompute to run "
        "it again, or another --out."
    )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], names: list[str]) -> str:
    words: list[str] = []
    for name in names:
        before, after = old.get(name), new[name]
        if isinstance(before, dict) and isinstance(after, dict):
            inner = [key for key in after if after[key] != before.get(key)]
            words += [f"{name}.{key}: {before.get(key)} before, {after[key]} now" for key in inner]
        else:
            words.append(f"{name}: {before} before, {after} now")
    return "; ".join(word[:120] for word in words[:3])


def _run(
    home: Path,
    method: Method,
    seed: int,
    settings: dict[str, Any],
    execute: Execute,
    where: str,
    lost: str | None,
    say: Say,
) -> Cell:
    folder = _folder(home, method.name, seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say(f"{where}: running" if lost is None else f"{where}: not run ({lost})")
    began = time.perf_counter()
    reason = lost or ""
    outcome = Outcome({})
    if lost is None:
        try:
            outcome = execute(method, seed, folder)
        except Unavailable as error:
            reason = str(error)
            say(f"{where}: unavailable: {reason}")
    seconds = time.perf_counter() - began
    outcome = _finite(outcome)
    cell = Cell(method.name, seed, _key(settings), outcome, round(seconds, 2), reason)
    write_json(
        folder / "cell.json",
        {
            "method": cell.method,
            "seed": seed,
            "key": cell.key,
            "settings": settings,
            "unavailable": reason,
            "seconds": cell.seconds,
            "scores": {key: round(float(value), 6) for key, value in outcome.scores.items()},
            "about": dict(outcome.about),
            "history": [
                {k: round(v, 6) if isinstance(v, float) else v for k, v in record.items()} for record in outcome.history
            ],
        },
    )
    if not reason:
        told = ", ".join(f"{k} {v:.3f}" for k, v in outcome.scores.items() if k in ("test_accuracy", "heldout_r2"))
        say(f"{where}: done in {seconds:.0f} s{', ' + told if told else ''}")
    return _read(folder / "cell.json")[0]


def _finite(outcome: Outcome) -> Outcome:
    """JSON has no NaN: scores that are not finite are left out, and a note says so."""
    lost = [key for key, value in outcome.scores.items() if not math.isfinite(value)]
    notes = [f"{key} was not finite." for key in lost]
    history = [
        {k: v for k, v in record.items() if not isinstance(v, float) or math.isfinite(v)} for record in outcome.history
    ]
    about = {**outcome.about, "notes": [*outcome.about.get("notes", []), *notes]} if notes else outcome.about
    return Outcome({k: v for k, v in outcome.scores.items() if k not in lost}, history, about)


def _read(file: Path) -> tuple[Cell, dict[str, Any]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        outcome = Outcome(found["scores"], found["history"], found["about"])
        cell = Cell(found["method"], found["seed"], found["key"], outcome, found["seconds"], found["unavailable"])
        return cell, dict(found["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file}: not a finished cell ({error}); remove its folder and go on with --resume.") from error


def read_cells(out: Path) -> list[Cell]:
    """All finished cells below ``out``, by name.

    Raises:
        RunError: there is none.
    """
    files = sorted((out / "cells").glob("*/cell.json"))
    if not files:
        raise RunError(f"{out}: no finished cells in it; make some with 'kdedge paper tables --out {out}'.")
    return [_read(file)[0] for file in files]
