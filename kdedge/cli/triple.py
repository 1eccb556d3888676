"""Three numbers in one option."""

from kdedge.errors import RunError

__all__ = ["triple"]


def triple(text: str | None, option: str) -> tuple[float, float, float] | None:
    """The numbers of ``1,2,3``; None for None; RunError, naming ``option``, for anything else."""
    if text is None:
        return None
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError:
        raise RunError(f"{option} is {text!r}; three numbers with commas between them were expected.") from None
    return first, second, third
