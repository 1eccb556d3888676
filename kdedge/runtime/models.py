"""Which model file to take when none, or only a name, is given."""

import os
from pathlib import Path

from kdedge.errors import ModelError

__all__ = ["DEFAULT_ZOO", "default_model", "zoo_folder", "zoo_models"]

DEFAULT_ZOO = "cifar10"
"""The zoo's entry that is taken when nothing else is there."""

EXPORTS = ("student.int8.onnx", "student.onnx")
ZOO_EXPORTS = ("model.int8.onnx", "model.onnx")


def default_model(explicit: str | None = None) -> tuple[Path, str]:
    """Choose a model file.

    Args:
        explicit: an ``.onnx`` file, a run directory, or the name of a model in the zoo. None takes ``$KDEDGE_MODEL``
            (any of these), else the newest export under ``runs/``, else the zoo's default.

    Returns:
        The ONNX file, and why it was taken, in words.

    Raises:
        ModelError: there is no such model, or none at all.
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


def zoo_folder() -> Path:
    """Where the shipped models lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_models"
    return shipped if shipped.is_dir() else package.parent / "models"


def zoo_models() -> dict[str, Path]:
    """The shipped models: name to ``.onnx`` file, sorted by name."""
    folder = zoo_folder()
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {entry.name: _first(entry, ZOO_EXPORTS) for entry in entries}
    return {name: path for name, path in found.items() if path}


def _resolve(given: str) -> Path:
    path = Path(given).expanduser()
    if path.is_file():
        if path.suffix.lower() != ".onnx":
            raise ModelError(f"{given}: a model is an .onnx file; this is none.")
        return path
    if path.is_dir():
        if export := _first(path, (*EXPORTS, *ZOO_EXPORTS)):
            return export
        raise ModelError(f"{given}: this folder has no {' or '.join(EXPORTS)}; make one with 'kdedge export {given}'.")
    zoo = zoo_models()
    if given in zoo:
        return zoo[given]
    names = ", ".join(zoo) or "it is empty"
    raise ModelError(f"{given}: no such model; expected an .onnx file, a run directory or a name of the zoo ({names}).")


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _newest(runs: Path) -> Path | None:
    if not runs.is_dir():
        return None
    exports = [path for run in runs.iterdir() if (path := _first(run, EXPORTS))]
    return max(exports, key=lambda path: (path.stat().st_mtime_ns, str(path)), default=None)
