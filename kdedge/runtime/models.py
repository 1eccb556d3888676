"""What exported files are called, and which one to take when none, or only a name, is given."""

import os
import platform
from pathlib import Path

from kdedge.errors import ModelError

__all__ = ["DEFAULT_ZOO", "default_model", "export_name", "named_model", "zoo_folder", "zoo_models"]

DEFAULT_ZOO = "cifar10"
"""The zoo's entry that is taken when nothing else is there."""

RUN, ZOO = "student", "model"
"""How the names of files begin in a run directory and in an entry of the zoo."""

_ARM = frozenset({"aarch64", "arm64"})


def export_name(target: str, precision: str, stem: str = RUN) -> str:
    """File name of an export: ``student.int8.onnx``, ``student.onnx``; ``student.arm64.int8.onnx`` for other targets.

    Args:
        target: device profile; ``x86`` is left out of the name.
        precision: ``int8``, ``fp16`` or ``fp32``, which is left out of the name.
    """
    parts = (stem, "" if target == "x86" else target, "" if precision == "fp32" else precision, "onnx")
    return ".".join(part for part in parts if part)


def default_model(explicit: str | None = None) -> tuple[Path, str]:
    """Choose a model file.

    Args:
        explicit: an ``.onnx`` file, a run directory, or the name of a model in the zoo. None takes ``$KDEDGE_MODEL``
            (any of these), else the newest export under ``runs/``, else the zoo's default. Of a directory's files the
            fastest is taken that was made for this machine's processor.

    Returns:
        The ONNX file, and why it was taken, in words.

    Raises:
        ModelError: there is no such model, or none at all, or none for this machine.
    """
    if explicit:
        return _resolve(explicit), "as given"
    if setting := os.environ.get("KDEDGE_MODEL"):
        return _resolve(setting), "from $KDEDGE_MODEL"
    if newest := _newest(Path("runs")):
        return newest, "the newest export under runs/"
    zoo = zoo_models()
    if DEFAULT_ZOO in zoo:
        return zoo[DEFAULT_ZOO], "the zoo's default"
    raise ModelError(
        "no model found; give one with --model (a .onnx file, a run directory or a name of the zoo), set KDEDGE_MODEL, "
        "or make one under runs/ with 'kdedge distill' and 'kdedge export'."
    )


def named_model(given: Path) -> Path:
    """The file of a run directory or of a name of the zoo; what looks like a file is left to whoever opens it.

    Raises:
        ModelError: see :func:`default_model`.
    """
    return given if given.suffix and not given.is_dir() else _resolve(str(given))


def zoo_folder() -> Path:
    """Where the shipped models lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_models"
    return shipped if shipped.is_dir() else package.parent / "models"


def zoo_models() -> dict[str, Path]:
    """The shipped models: name to ``.onnx`` file, sorted by name."""
    folder = zoo_folder()
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {entry.name: _first(entry, ZOO) for entry in entries}
    return {name: path for name, path in found.items() if path}


def _resolve(given: str) -> Path:
    path = Path(given).expanduser()
    if path.is_file():
        if path.suffix.lower() != ".onnx":
            raise ModelError(f"{given}: a model is an .onnx file; this is none.")
        return path
    if path.is_dir():
        if export := _first(path, RUN) or _first(path, ZOO):
            return export
        here = _targets()[0]
        make = f"kdedge export {given} --target {here}"
        if others := sorted(file.name for stem in (RUN, ZOO) for file in path.glob(f"{stem}.*.onnx")):
            raise ModelError(
                f"{given}: {', '.join(others)} {'is' if len(others) == 1 else 'are'} for other devices than this {here} "
                f"machine; give the file's own name to run it all the same, or make one for here with '{make}'."
            )
        names = " or ".join(_wanted(RUN))
        raise ModelError(f"{given}: this folder has no {names}; make one with 'kdedge export {given}'.")
    zoo = zoo_models()
    if given in zoo:
        return zoo[given]
    names = ", ".join(zoo) or "it is empty"
    raise ModelError(f"{given}: no such model; expected an .onnx file, a run directory or a name of the zoo ({names}).")


def _targets() -> tuple[str, ...]:
    """Device profiles whose files run on this machine's processor, its own first."""
    return ("arm64", "x86") if platform.machine().lower() in _ARM else ("x86",)


def _wanted(stem: str) -> list[str]:
    """File names, the best first: int8 before fp32, since ARM runs the other profile's int8, only slower."""
    return [export_name(target, precision, stem) for precision in ("int8", "fp32") for target in _targets()]


def _first(folder: Path, stem: str) -> Path | None:
    return next((folder / name for name in _wanted(stem) if (folder / name).is_file()), None)


def _newest(runs: Path) -> Path | None:
    if not runs.is_dir():
        return None
    exports = [path for run in runs.iterdir() if (path := _first(run, RUN))]
    return max(exports, key=lambda path: (path.stat().st_mtime_ns, str(path)), default=None)
