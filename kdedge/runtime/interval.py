"""How far a share measured on few images may be off."""

from math import sqrt

__all__ = ["Z95", "wilson"]

Z95 = 1.959963984540054
"""The normal quantile of 0.975."""


def wilson(share: float, count: int, z: float = Z95) -> tuple[float, float]:
    """The score interval of a binomial share, inside 0-1 (E. B. Wilson, JASA 22, 1927, p. 209-212).

    Args:
        share: share of successes, 0-1.
        count: how many were drawn, at least 1.
        z: normal quantile; the default gives 95 %.
    """
    if count < 1 or not 0.0 <= share <= 1.0:
        raise ValueError(f"expected a share of 0-1 of at least one image, got {share!r} of {count!r}.")
    weight = z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * sqrt(share * (1 - share) / count + weight / (4 * count))
    # At 0 and 1 the bounds are exact; rounding must not push them out or in.
    return (0.0 if share == 0.0 else max(0.0, middle - half)), (1.0 if share == 1.0 else min(1.0, middle + half))
