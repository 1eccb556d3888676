"""Put the numbers of a quickstart's summary.json into README.md, between its two quickstart:table comments."""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.common import conditions_line, fill, markdown_table
from kdedge.files import write_text

README = Path(__file__).parents[1] / "README.md"
MARKER = "quickstart:table"


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("summary", type=Path, help="summary.json of a quickstart")
    options.add_argument("--readme", type=Path, default=README, help="the file to fill")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Fill the file and return its path."""
    given = parser().parse_args(arguments)
    summary = json.loads(given.summary.read_text(encoding="utf-8"))
    write_text(given.readme, fill(given.readme.read_text(encoding="utf-8"), MARKER, body(summary)))
    return Path(given.readme)


def body(summary: dict[str, Any]) -> str:
    """The table that ``kdedge quickstart`` ends with, and on what it was measured."""
    from kdedge.quickstart.finish import table  # needs kdedge[train]

    head, *rows = table(summary)
    return (
        f"{markdown_table(head, rows)}\n"
        f"The int8 student is {summary['speedup']:.1f} times faster and {summary['size_ratio']:.1f} times smaller than "
        f"ResNet-50 in fp32. A student that learned from studio pictures alone, a harder split, reaches "
        f"{summary['shift_accuracy']:.2f} on the other photographs (teacher: {summary['teacher_shift_accuracy']:.2f}). Seed "
        f"{summary['seed']}, {summary['seconds']['total'] / 60:.1f} minutes. "
        f"{conditions_line(summary['bench']['conditions'])}"
    )


if __name__ == "__main__":
    print(main())
