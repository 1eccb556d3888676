"""How long and how large a distillation on many images is, computed from rates that were measured; see docs/scale.md.

Rates are images a second of one device, as `python -m benchmarks.distill_throughput --json` or the last lines of `kdedge
distill` tell them. Nothing here is measured.
"""

import argparse
import json
from dataclasses import asdict, dataclass

from benchmarks.common import markdown_table


@dataclass(frozen=True)
class Plan:
    """What a run costs.

    Attributes:
        shards_gb, activations_gb, decoded_gb: storage in 10^9 bytes: tar shards, float16 activations, and decoded images if
            they were kept.
        teacher_hours, student_hours: of one device; ``wall_hours``: of all, which share the work evenly.
        reading_mb_s: what each device must be fed with while the student trains on shards, 10^6 bytes a second.
    """

    shards_gb: float
    activations_gb: float
    decoded_gb: float
    teacher_hours: float
    student_hours: float
    wall_hours: float
    reading_mb_s: float


def plan(
    images: float,
    views: int,
    epochs: float,
    dim: int,
    size: int,
    image_kb: float,
    teacher_rate: float,
    student_rate: float,
    devices: int,
) -> Plan:
    """Costs of ``epochs`` passes over ``views`` views of each image; rates are images a second of one device."""
    shown = images * views
    teacher, student = shown / teacher_rate / 3600, shown * epochs / student_rate / 3600
    return Plan(
        shards_gb=images * image_kb / 1e6,
        activations_gb=shown * dim * 2 / 1e9,
        decoded_gb=images * size * size * 3 / 1e9,
        teacher_hours=teacher,
        student_hours=student,
        wall_hours=(teacher + student) / devices,
        reading_mb_s=student_rate * image_kb / 1e3,
    )


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=float, default=100e6, help="images of the transfer set")
    options.add_argument("--views", type=int, default=1, help="views of each image that the teacher sees")
    options.add_argument("--epochs", type=float, default=3.0, help="passes of the student over all views")
    options.add_argument("--dim", type=int, default=2048, help="dimensions of an activation")
    options.add_argument("--size", type=int, default=224, help="pixels of a view's side")
    options.add_argument("--image-kb", type=float, default=20.0, help="mean size of an encoded image, 10^3 bytes")
    options.add_argument("--teacher-rate", type=float, required=True, help="images a second, forward, of one device")
    options.add_argument("--student-rate", type=float, required=True, help="images a second, trained on, of one device")
    options.add_argument("--devices", type=int, default=1, help="GPUs or machines that share the work")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


def main(arguments: list[str] | None = None) -> str:
    """The plan as a Markdown table, or as JSON."""
    given = vars(parser().parse_args(arguments))
    as_json = given.pop("json")
    if min(given.values()) <= 0:
        parser().error("all numbers must be above zero.")
    found = plan(**given)
    if as_json:
        return json.dumps({**given, **asdict(found)})
    rows = [
        ["tar shards", f"{found.shards_gb:,.0f} GB"],
        ["activations, float16", f"{found.activations_gb:,.0f} GB"],
        ["decoded images, if kept", f"{found.decoded_gb:,.0f} GB"],
        ["teacher's pass", f"{found.teacher_hours:,.1f} device hours"],
        ["student's training", f"{found.student_hours:,.1f} device hours"],
        [f"together on {given['devices']} device(s)", f"{found.wall_hours:,.1f} hours"],
        ["shards to read while training, each device", f"{found.reading_mb_s:,.0f} MB/s"],
    ]
    return markdown_table(("", ""), rows)


if __name__ == "__main__":
    print(main())
