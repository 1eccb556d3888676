"""Export a run to fp32 and int8, and stop if the int8 file loses more than it may."""

import argparse
import sys
from pathlib import Path

from kdedge.export.guard import Limits
from kdedge.export.recipe import ExportOptions
from kdedge.export.sources import export_run


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path, help="directory that kdedge distill made")
    options.add_argument("--max-drop", type=float, default=1.0, help="points of accuracy that int8 may lose, 0-100")
    options.add_argument("--min-speedup", type=float, default=1.0, help="least speed against fp32; 0 does not measure")
    given = options.parse_args()

    limits = Limits(max_drop=given.max_drop, min_speedup=given.min_speedup)
    result = export_run(given.run, ExportOptions(limits=limits, overwrite=True))
    print(f"fp32: {result.fp32.bytes:,} bytes, largest error {result.fp32.parity.max_abs_error:.1e} against torch")
    if result.int8 is None or result.quantized is None:
        sys.exit(f"{result.missed}: give more training images, or deploy {result.fp32.path}")
    close = result.int8.parity
    print(f"int8: {result.int8.bytes:,} bytes, {result.quantized.fusion.share:.0%} of the convolutions in int8")
    print(f"same answer on {close.top1_agreement:.1%} of {close.images} held-out images")


if __name__ == "__main__":
    main()
