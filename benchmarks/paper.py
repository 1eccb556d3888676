"""Keep what 'kdedge paper tables', 'ablation' or 'features' made, with the machine and the versions, in results/.

Run it on the machine that made it, right afterwards.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from benchmarks.common import RESULTS, all_conditions, conditions_line, slug, write_results
from kdedge.errors import DataError, KdedgeError

MADE = ("tables", "ablation", "features")
PICTURES = ("figure-*.png", "features.png")  # not the contact sheet of crops: half a megabyte


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", type=Path, help="folder that the command wrote")
    options.add_argument("name", help="first part of the files' names, paper-small for one")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Write JSON, Markdown and the pictures; return the path of the Markdown."""
    given = parser().parse_args(arguments)
    what = next((name for name in MADE if (given.run / f"{name}.json").is_file()), None)
    if what is None:
        raise DataError(f"{given.run}: none of {', '.join(f'{name}.json' for name in MADE)} is in it.")
    known = all_conditions()
    name = f"{given.name}-{slug(known)}"
    data = json.loads((given.run / f"{what}.json").read_text(encoding="utf-8"))
    text = (given.run / f"{what}.md").read_text(encoding="utf-8").rstrip()
    for picture in sorted(path for pattern in PICTURES for path in given.run.glob(pattern)):
        shutil.copyfile(picture, given.results / f"{name}-{picture.name}")
        text = text.replace(f"]({picture.name})", f"]({name}-{picture.name})")
        if f"{name}-{picture.name}" not in text:
            text += f"\n\n![{picture.stem}]({name}-{picture.name})"
    return write_results(given.results, name, {**data, "conditions": known}, f"{text}\n\n{conditions_line(known)}\n")


if __name__ == "__main__":
    try:
        print(main())
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
