"""Export a run to fp32 and int8 and stop if the int8 file differs too much from the fp32 one."""

import argparse
import sys
from pathlib import Path

from kdedge.export.recipe import export_run


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", type=Path, help="directory that kdedge distill made")
    options.add_argument("--agreement", type=float, default=0.95, help="least share of equal answers, 0-1")
    given = options.parse_args()

    result = export_run(given.run, overwrite=True)
    assert result.parity_int8 is not None
    assert result.fusion is not None
    print(f"fp32: {result.fp32_bytes:,} bytes, largest error {result.parity_fp32.max_abs_error:.1e} against torch")
    print(f"int8: {result.int8_bytes:,} bytes, {result.fusion.share:.0%} of the convolutions in int8")
    print(f"same answer on {result.parity_int8.top1_agreement:.1%} of {result.parity_int8.images} held-out images")
    if result.parity_int8.top1_agreement < given.agreement:
        sys.exit(f"below {given.agreement:.0%}: give more training images, or deploy {result.fp32_path}")


if __name__ == "__main__":
    main()
