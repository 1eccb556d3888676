"""People enrolled on the device from 1, 5 and 16 images, trained people beside them, and strangers.

Students are distilled from SFace with some of the ten openpeople left out of everything; of these two are enrolled, one sets
the threshold, one is the stranger, in all arrangements. SFace itself, with the same images, stands beside them. Finished
students are not trained again. Choice 0 of people served to develop the method and is not among the default ones.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, all_conditions, conditions_line, markdown_table, slug, write_results
from benchmarks.unknown.material import GENERATED, LABELLED, VALIDATION, prepare
from benchmarks.unknown.measure import (
    RATE,
    SFACE_THRESHOLD,
    SHOTS,
    Tally,
    interval,
    knownness,
    measure,
    read,
    sface,
)
from kdedge.quickstart.material import demo_teacher

__all__ = ["main", "markdown", "parser"]

TRAINED = 6


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--choices", type=int, nargs="+", default=[1, 2, 3], help="choices of people, one student each"
    )
    options.add_argument("--steps", type=int, default=300, help="training steps of a student, batches of 32")
    options.add_argument("--student", default="timm/efficientnet_lite0", help="family/name")
    options.add_argument("--draws", type=int, default=5, help="draws of enrolled images for each pair of people")
    options.add_argument("--runs", type=Path, default=Path("runs/enroll"), help="folder of the run directories")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, measure, write JSON and Markdown."""
    given = parser().parse_args(arguments)
    made = prepare(given.runs, TRAINED, given.choices, given.steps, given.student)
    teacher = sface(demo_teacher(lambda _: None))
    tallies: dict[tuple[str, int], Tally] = {}
    choices = []
    for split, file in made:
        print(f"choice {split.number}: {file}", file=sys.stderr, flush=True)
        found = read(split, file, teacher)
        measure(found, given.draws, tallies)
        card = found.classifier.card
        seconds = file.parent / "seconds.json"
        choices.append(
            {
                "choice": split.number,
                "trained": list(split.known),
                "left_out": list(split.others.classes),
                "heldout_r2": card.scores["heldout_r2"],
                "rejection": dict(card.rejection),
                "knownness": knownness(found),
                "seconds": json.loads(seconds.read_text(encoding="utf-8")) if seconds.is_file() else None,
            }
        )
        found.classifier.close()
    known = all_conditions()
    data = {
        "student": given.student,
        "steps": given.steps,
        "draws": given.draws,
        "choices": choices,
        "images": {"training": LABELLED, "validation": VALIDATION, "generated": GENERATED},
        "rate": RATE,
        "sface_threshold": SFACE_THRESHOLD,
        "results": [
            {
                "method": method,
                "shots": shots,
                **{name: interval(units) for name, units in tally.found.items() if any(n for _, n in units.values())},
            }
            for (method, shots), tally in tallies.items()
        ],
        "conditions": known,
    }
    stem = f"enroll-{given.student.replace('/', '-')}-{slug(known)}"
    print(write_results(given.results, stem, data, markdown(data)))
    return 0


def _cell(row: dict[str, Any], name: str) -> str:
    found = row.get(name)
    return f"{found['mean']:.2f} ({found['low']:.2f}-{found['high']:.2f})" if found else "-"


def markdown(data: dict[str, Any]) -> str:
    """The result for people."""
    rows = sorted(data["results"], key=lambda row: (SHOTS.index(row["shots"]), row["method"] != "student"))
    closed = ("enrolled", "enrolled, other photographs", "trained before", "trained")
    head = ("method", "images", *closed)
    first = [(row["method"], row["shots"], *(_cell(row, name) for name in closed)) for row in rows]
    tables = [markdown_table(head, first)]
    for kind in ("default", "strangers"):
        names = (f"enrolled, {kind}", f"trained, {kind}", f"false reject, {kind}", f"false accept, {kind}")
        second = [
            (row["method"], row["shots"], *(_cell(row, name) for name in names)) for row in rows if names[0] in row
        ]
        words = ("method", "images", "enrolled right", "trained right", "enrolled called unknown", "strangers accepted")
        tables.append(markdown_table(words, second))
    scores = list(data["choices"][0]["knownness"])
    mean = {
        name: [
            float(np.mean([c["knownness"][name][of] for c in data["choices"]])) for of in ("validation", "strangers")
        ]
        for name in scores
    }
    third = [(name, f"{on_val:.3f}", f"{on_people:.3f}") for name, (on_val, on_people) in mean.items()]
    claimed = float(np.mean([choice["rejection"]["false_accept"] for choice in data["choices"]]))
    images = data["images"]
    people = (
        f"{TRAINED} of 10 synthetic people ({images['training']} crops each, {images['validation']} for the threshold"
    )
    return (
        f"# Enrolment and strangers, {data['student']}, {data['steps']} steps\n\n"
        f"{len(data['choices'])} students, each trained on {people}, and {images['generated']:,} generated faces of nobody); "
        "the teacher, SFace, has seen neither. Of the other 4, two are enrolled: all pairs, "
        f"{data['draws']} draws of images each. Shares of their other images, mean over people, with 95 % intervals of a "
        "bootstrap over people.\n\n"
        "## Everybody is somebody\n\nNo threshold: which class is named. *Other photographs*: images under conditions that "
        f"none of the enrolled ones shows.\n\n{tables[0]}\n"
        "## Unknown, as exported\n\nThe student's threshold is the card's, set at export with classes for strangers, whether "
        f"or not it would be applied unasked; it claims that {claimed:.0%} of strangers are accepted. SFace's is the cosine of "
        f"{data['sface_threshold']} that OpenCV documents.\n\n{tables[1]}\n"
        "## Unknown, calibrated on the device\n\n`kdedge gallery calibrate` with the images of one stranger, for "
        f"{data['rate']:.0%} of false accepts; counted on the images of another.\n\n{tables[2]}\n"
        "## Which score tells known from unknown\n\nArea under the ROC curve with nobody enrolled: on validation images, each "
        "class in turn for a stranger, and on people who were left out. Validation flatters, since the network was trained on "
        f"these people.\n\n{markdown_table(('score', 'validation', 'people left out'), third)}\n"
        "Ten synthetic people are few: intervals over them say nothing of other faces, other cameras or other networks. People "
        f"recur in several students, so the intervals are rather too narrow.\n\n{conditions_line(data['conditions'])}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
