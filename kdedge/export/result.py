"""What an export wrote and how its files compare."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdedge.card import ModelCard
from kdedge.export.int8 import Int8
from kdedge.export.targets import Target
from kdedge.export.validate import Rule
from kdedge.export.verify import Parity

__all__ = ["ExportResult", "Written"]


@dataclass(frozen=True)
class Written:
    """One file.

    Attributes:
        parity: agreement with ``reference``, the form before it.
        rules: of its target, every one of which holds.
    """

    path: Path
    bytes: int
    precision: str
    reference: str
    parity: Parity
    rules: tuple[Rule, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "path": str(self.path),
            "bytes": self.bytes,
            "reference": self.reference,
            "parity": self.parity.to_dict(),
            "rules": [rule.to_dict() for rule in self.rules],
        }


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        target: the device profile.
        card: that of the last file written.
        fp32, fp16, int8: the files; None for one that was not asked for, or for an int8 file that missed its limits.
        quantized: how int8 was made and what was tried; None if it was not asked for.
    """

    target: Target
    card: ModelCard
    fp32: Written
    fp16: Written | None = None
    int8: Written | None = None
    quantized: Int8 | None = None

    @property
    def missed(self) -> str:
        """Why there is no int8 file although one was asked for; empty otherwise."""
        return self.quantized.guarded.why_not if self.quantized else ""

    @property
    def best(self) -> Written:
        """The file to deploy: int8, else float16, else fp32."""
        return self.int8 or self.fp16 or self.fp32

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "target": asdict(self.target),
            "fp32": self.fp32.to_dict(),
            "fp16": self.fp16.to_dict() if self.fp16 else None,
            "int8": self.int8.to_dict() if self.int8 else None,
            "int8_missed": self.missed,
            **(_quantized(self.quantized) if self.quantized else {}),
        }


def _quantized(made: Int8) -> dict[str, Any]:
    collected = made.quantizer.cached.collected
    return {
        "fusion": made.fusion.to_dict(),
        "calibration": {
            **made.choice.to_dict(),
            "images": collected.images,
            "key": made.quantizer.cached.key,
            "cached": made.quantizer.cached.cached,
            "peak_rss_mb": collected.peak_rss_mb,
        },
        "guard": {
            "limits": asdict(made.limits),
            "attempts": [attempt.to_dict() for attempt in made.guarded.attempts],
            "layer_noise": dict(made.guarded.ranking),
        },
    }
