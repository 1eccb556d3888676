"""Distil a teacher into a small student with your own images, then export it as int8."""

import argparse
from pathlib import Path

from kdedge.export.sources import export_run
from kdedge.training.config import DistillConfig
from kdedge.training.distill import distill


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("labelled", help="one folder a class; a fifth of it becomes the validation set")
    options.add_argument("--transfer", help="unlabelled images, any nesting")
    options.add_argument("--teacher", default="torchvision/resnet50")
    options.add_argument("--teacher-weights", default="pretrained")
    options.add_argument("--student", default="timm/efficientnet_lite0")
    options.add_argument("--student-weights", default="auto")
    options.add_argument("--size", type=int, default=224)
    options.add_argument("--steps", type=int, default=2000)
    options.add_argument("--out", default="runs/own")
    given = options.parse_args()

    config = DistillConfig(
        teacher=given.teacher,
        teacher_weights=given.teacher_weights,
        student=given.student,
        student_weights=given.student_weights,
        data=given.labelled,
        transfer=given.transfer,
        size=given.size,
        steps=given.steps,
        out=given.out,
    )
    done = distill(config)
    print(f"{done.verdict} Validation accuracy: {done.scores['val_accuracy']:.3f}")
    print(export_run(Path(given.out)).best.path)


if __name__ == "__main__":
    main()
