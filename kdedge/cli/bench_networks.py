"""Networks that ``kdedge bench`` makes here, untrained: the teacher, and a student that is no file yet."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdedge.runtime.compare import Candidate

__all__ = ["TEACHER", "networks", "teachers"]

TEACHER = "torchvision/resnet50"


def teachers(
    name: str | None, files: Mapping[str, Path | None], size: int, classes: int, provider: str
) -> "list[Candidate]":
    """The networks to compare with: files made elsewhere, or made here; none, with a word about it, where neither can be.

    Args:
        name: as given to ``--teacher``.
        files: precision to file, as given to ``--teacher-fp32`` and so on.
        size: pixels.
        classes: outputs.
        provider: what all run on.

    Raises:
        ModelError: a file is missing, or the network that was named cannot be made.
    """
    from kdedge.errors import KdedgeError
    from kdedge.runtime.bench.models import teacher_files

    if any(files.values()):
        return teacher_files(name if name and name != "none" else TEACHER, files)
    if name == "none":
        return []
    try:
        return networks(name or TEACHER, size, classes, "teacher", provider)
    except KdedgeError as error:
        if name:
            raise
        print(f"no teacher beside it: {error}", file=sys.stderr)
        return []


def networks(name: str, size: int, classes: int, role: str, provider: str) -> "list[Candidate]":
    """A network in fp32 and int8, on a GPU in fp16 too.

    Raises:
        ModelError: it is unknown, or torch is not there to make it.
    """
    from kdedge.cli.progress import progress_bar
    from kdedge.errors import ModelError
    from kdedge.runtime.bench.models import precisions
    from kdedge.runtime.compare import Candidate

    found = []
    try:
        from kdedge.export.networks import network_onnx
        from kdedge.export.networks_gpu import network_gpu

        with progress_bar(f"make {name}") as progress:
            for precision in precisions(provider):
                if precision == "fp16" or (precision == "int8" and provider == "tensorrt"):
                    path = network_gpu(name, size, precision, classes, progress)
                else:
                    path = network_onnx(name, size, precision, classes, progress)
                found.append(Candidate(name, precision, path, role=role))
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{name}: the network must be made here, which needs {error.name}: pip install 'kdedge[train]'; or give files "
            "made elsewhere with --teacher-fp32 and --teacher-int8."
        ) from error
    return found
