"""Time ONNX files beside each other on this machine. Needs the device install only."""

import argparse
from pathlib import Path

from kdedge.runtime.compare import Candidate, compare


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("models", type=Path, nargs="+", help="ONNX files with one input (B, 3, SIZE, SIZE)")
    options.add_argument("--size", type=int, default=224, help="pixels")
    options.add_argument("--repeats", type=int, default=100)
    given = options.parse_args()

    candidates = [Candidate(path.stem, "int8" if ".int8" in path.name else "fp32", path) for path in given.models]
    found = compare(candidates, given.size, repeats=given.repeats)
    for row in found.rows:
        time = row.latency
        print(
            f"{row.candidate.path}: {row.bytes / 1e6:.1f} MB, p50 {time.p50_ms:.2f} ms, p99 {time.p99_ms:.2f} ms, "
            f"{time.images_per_s:.0f} images/s, {row.peak_rss_mb or 0:.0f} MB of memory"
        )
    print(f"{found.conditions['cpu']}, {found.conditions['threads']} threads")


if __name__ == "__main__":
    main()
