"""What may happen to an image in a view: probabilities and ranges."""

from collections.abc import Callable
from dataclasses import dataclass

from kdedge.errors import RunError

__all__ = ["Augment"]


@dataclass(frozen=True)
class Augment:
    """The random transforms of a view: each has its probability (0-1) and its range, and each is drawn on its own (S2).

    Attributes:
        flip: probability of a horizontal flip.
        rotate_p, rotate: probability and range of a rotation, degrees; one number is the largest angle either way.
        zoom_p, zoom: probability and range of the scale factor.
        shift: largest shift that goes with a change of scale, share of the side.
        jitter_p, jitter: probability and strength of brightness, contrast, saturation, hue.
        blur, blur_kernel, blur_sigma: probability of a Gaussian blur, its kernel (width, height) and its range, pixels.
        erase, erase_area: probability of random erasing (Zhong et al., arXiv 1708.04896) and range of the erased share.

    Raises:
        RunError: a probability outside 0-1 or a range that is none.
    """

    flip: float = 0.5
    rotate: float | tuple[float, float] = 20.0
    shift: float = 0.08
    zoom: tuple[float, float] = (0.8, 1.25)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.3, 0.03)
    blur: float = 0.3
    rotate_p: float = 1.0
    zoom_p: float = 1.0
    jitter_p: float = 1.0
    blur_kernel: tuple[int, int] = (5, 5)
    blur_sigma: tuple[float, float] = (0.1, 1.5)
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.2)

    def __post_init__(self) -> None:
        for name in ("flip", "rotate_p", "zoom_p", "jitter_p", "blur", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise RunError(f"augmentation: {name} is {getattr(self, name)}; a probability lies between 0 and 1.")
        for name in ("zoom", "blur_sigma", "erase_area"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise RunError(
                    f"augmentation: {name} is {low} to {high}; expected a range above zero, smaller end first."
                )
        if isinstance(self.rotate, tuple) and self.rotate[0] > self.rotate[1]:
            raise RunError(
                f"augmentation: rotate is {self.rotate[0]} to {self.rotate[1]}; the smaller end comes first."
            )
        if min(self.jitter) < 0 or self.jitter[3] > 0.5 or not 0 <= self.shift < 1 or self.erase_area[1] >= 1:
            raise RunError(
                "augmentation: jitter must not be negative (hue at most 0.5), shift and erased share are below 1."
            )
        if any(side < 1 or side % 2 == 0 for side in self.blur_kernel):
            raise RunError(f"augmentation: blur_kernel is {self.blur_kernel}; both sides must be odd and positive.")

    @classmethod
    def paper(cls) -> "Augment":
        """What the paper's published code used: no jitter, no erasing."""
        return cls(
            flip=0.5,
            rotate=(0.0, 45.0),
            rotate_p=0.5,
            shift=0.0,
            zoom=(0.7, 1.0),
            zoom_p=0.5,
            jitter_p=0.0,
            blur=0.1,
            blur_kernel=(5, 9),
        )

    @classmethod
    def light(cls) -> "Augment":
        """For small pictures of things: flip, small shifts and changes of scale and light."""
        return cls(rotate=5.0, shift=0.1, zoom=(0.9, 1.15), jitter=(0.2, 0.2, 0.2, 0.0), blur=0.0)

    @classmethod
    def named(cls, name: str) -> "Augment":
        """``default``, ``light`` or ``paper``; RunError otherwise."""
        makers: dict[str, Callable[[], Augment]] = {"default": cls, "light": cls.light, "paper": cls.paper}
        if name not in makers:
            raise RunError(f"unknown augmentation {name!r}; choose one of {', '.join(makers)}.")
        return makers[name]()
