"""What a run directory holds, read without torch and onnx: settings, curves, cards, exported files, scores, timings."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from kdedge.card import ModelCard
from kdedge.errors import RunError
from kdedge.runtime.info import read_info

__all__ = ["Export", "RunRecord", "read_bench", "read_run"]

PRECISIONS = ("int8", "fp16", "fp32")
"""The form a device would run first."""

CONFIG, CARD, METRICS, IMAGES = "config.toml", "card.json", "metrics.jsonl", "images.json"
RESULT, SUMMARY, BENCH = "result.json", "summary.json", "bench.json"


@dataclass(frozen=True)
class Export:
    """An exported file.

    Attributes:
        bytes: its size.
        card: what it says about itself.
    """

    path: Path
    bytes: int
    sha256: str
    card: ModelCard


@dataclass(frozen=True)
class RunRecord:
    """All that a run directory tells; what is not there is empty.

    Attributes:
        command: that made it.
        kind: ``distill``, or the method of a training on labels (``teacher``, ``scratch``, ...).
        settings: of that command, as in config.toml.
        card: of the network as trained; None as long as the run is not finished.
        exports: the exported files, those of one target together, int8 first.
        history: records of metrics.jsonl, without a last line that was cut off.
        trained: absolute paths of the images that were trained on.
        heldout: likewise of those that chose among weights or measured the imitation, but were not trained on.
        heldout_labels: class numbers of these, -1 where the label was not known.
        scores: name to share or other number, of the network as trained; the name says on which images.
        summary: of a quickstart.
        bench: what ``kdedge bench`` wrote.
    """

    path: Path
    command: str = ""
    kind: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    card: ModelCard | None = None
    exports: tuple[Export, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    trained: tuple[str, ...] = ()
    heldout: tuple[str, ...] = ()
    heldout_labels: tuple[int, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    bench: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return self.card is not None

    @property
    def best_card(self) -> ModelCard | None:
        """The card that knows most: that of the first export, else that of the network as trained."""
        return self.exports[0].card if self.exports else self.card

    def export(self, precision: str, target: str | None = None) -> Export | None:
        """The file of this precision, made for ``target`` (None: of the first target there is)."""
        wanted = target if target is not None else next((each.card.target for each in self.exports), "")
        for each in self.exports:
            if each.card.precision == precision and each.card.target == wanted:
                return each
        return None

    def folder(self, key: str) -> Path | None:
        """Where a setting (``test``, ``val``, ``train``, ``data``, ``manifest``) points today; None if that is gone.

        A folder inside the run is looked for inside it, even if the run was moved; any other from where the command ran, as
        the place of the run and of its training images tells; only if neither does from here.
        """
        given, out = self.settings.get(key), self.settings.get("out")
        if not isinstance(given, str) or not given:
            return None
        path, places, root = Path(given), [], self._root()
        if isinstance(out, str) and out and path.is_relative_to(out):
            places.append(self.path / path.relative_to(out))
        places.append(root / path if root else path)
        if root and not root.exists():
            places.append(path)
        return next((place for place in places if (place.is_file() if key == "manifest" else place.is_dir())), None)

    def _root(self) -> Path | None:
        """Folder that the command ran in, as far as relative settings tell."""
        out, here = self.settings.get("out"), self.path.resolve()
        if isinstance(out, str) and out and not Path(out).is_absolute():
            parts = Path(out).parts
            if ".." not in parts and here.parts[-len(parts) :] == parts:
                return here.parents[len(parts) - 1]
        for key in ("train", "data", "transfer"):
            given = self.settings.get(key)
            if not isinstance(given, str) or not given or Path(given).is_absolute():
                continue
            part = f"/{Path(given).as_posix()}/"
            found = next((path for path in (*self.trained[:1], *self.trained[-1:]) if part in path), None)
            if found:
                return Path(found.partition(part)[0] or "/")
        return None


def read_run(path: str | Path) -> RunRecord:
    """Read a run directory: of ``kdedge distill``, ``teacher fit``, ``train`` or ``quickstart``, finished or not.

    Raises:
        RunError: there is no such directory, it is no run (it has no config.toml), or one of its files is garbled.
        ModelError: an exported file cannot be loaded, or has no card.
    """
    root = Path(path)
    if not root.exists():
        raise RunError(f"{path}: no such run directory.")
    if not root.is_dir():
        raise RunError(
            f"{path}: a run directory was expected, this is a file; for a model file there is 'kdedge info'."
        )
    if not (root / CONFIG).is_file():
        raise RunError(
            f"{path}: not a run directory (no {CONFIG} in it); give one that 'kdedge distill', 'kdedge teacher fit', "
            "'kdedge train' or 'kdedge quickstart' made."
        )
    command, kind, settings = _config(root / CONFIG)
    card = None
    if (root / CARD).is_file():
        card = ModelCard.from_json(_text(root / CARD), str(root / CARD))
    images = _object(root / IMAGES)
    scores = {**(card.scores if card else {}), **_object(root / RESULT)}
    return RunRecord(
        path=root,
        command=command,
        kind=kind,
        settings=settings,
        card=card,
        exports=_exports(root),
        history=_history(root / METRICS),
        trained=_paths(images.get("trained"), root / IMAGES),
        heldout=_paths(images.get("heldout"), root / IMAGES),
        heldout_labels=_numbers(images.get("heldout_labels"), root / IMAGES),
        scores={key: float(value) for key, value in scores.items() if _is_number(value)},
        summary=_object(root / SUMMARY),
        bench=read_bench(root / BENCH) if (root / BENCH).is_file() else {},
    )


def read_bench(path: str | Path) -> dict[str, Any]:
    """What ``kdedge bench --out`` wrote: ``rows`` and ``conditions``.

    Raises:
        RunError: it cannot be read, or is something else.
    """
    if not Path(path).is_file():
        raise RunError(f"{path}: no such file; make one with 'kdedge bench RUN --out {path}'.")
    found = _object(Path(path))
    rows = found.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise RunError(
            f"{path}: not what 'kdedge bench --out' writes (no rows); make one with 'kdedge bench RUN --out {path}'."
        )
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not a text file ({error.reason}); it was damaged.") from error
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}).") from error


def _config(path: Path) -> tuple[str, str, dict[str, Any]]:
    try:
        values = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"{path}: not the settings of a run ({error}).") from error
    section, settings = next(((key, value) for key, value in values.items() if isinstance(value, dict)), ("", {}))
    command, method = values.get("command"), settings.get("method")
    return command if isinstance(command, str) else "", method if isinstance(method, str) else section, settings


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if the file is not there."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise RunError(f"{path}: not JSON ({error}); it was damaged, or is not of a run.") from error
    if not isinstance(found, dict):
        raise RunError(f"{path}: a JSON object was expected, found {type(found).__name__}.")
    return found


def _history(path: Path) -> tuple[dict[str, Any], ...]:
    if not path.is_file():
        return ()
    found = []
    for number, line in enumerate(_text(path).splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break  # a full disk, or a training that writes just now
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RunError(f"{path}: line {number} is not JSON ({error}); it was damaged.") from error
        if not isinstance(record, dict):
            raise RunError(f"{path}: line {number} is {type(record).__name__}, a JSON object was expected.")
        found.append(record)
    return tuple(found)


def _paths(found: object, source: Path) -> tuple[str, ...]:
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
        raise RunError(f"{source}: not the list of images of a run (paths were expected).")
    return tuple(found)


def _numbers(found: object, source: Path) -> tuple[int, ...]:
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(label, int) for label in found):
        raise RunError(f"{source}: not the list of images of a run (class numbers were expected).")
    return tuple(found)


def _exports(root: Path) -> tuple[Export, ...]:
    found = []
    for path in sorted(root.glob("student*.onnx")):
        info = read_info(path)
        found.append(Export(path, info.bytes, info.sha256, info.card))
    targets: Sequence[str] = sorted({each.card.target for each in found}, key=lambda target: (target != "x86", target))
    return tuple(
        sorted(found, key=lambda each: (targets.index(each.card.target), _rank(each.card.precision), str(each.path)))
    )


def _rank(precision: str) -> int:
    return PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS)
