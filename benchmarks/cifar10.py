"""CIFAR-10 with 32 labelled images a class: a teacher that saw every label, students that saw 320.

DATA holds train/CLASS/image and test/CLASS/image (50,000 and 10,000 of 32x32 pixels). Every step is a command of kdedge and
leaves a run directory; finished steps are not run again, an interrupted training goes on where it stopped.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, all_conditions, conditions_line, markdown_table, slug, write_results
from kdedge.data.folder import LabelledImages, class_folders
from kdedge.data.split import place, split_per_class
from kdedge.errors import DataError

LOSSES = ("mse+cosine", "mse", "bce")


@dataclass(frozen=True)
class Step:
    """A command and the file that is there once it has ended well."""

    name: str
    command: tuple[str, ...]
    made: Path
    run: Path | None = None


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path, help="folder with train/CLASS/image and test/CLASS/image")
    options.add_argument(
        "--work", type=Path, default=Path("runs/cifar10"), help="folder of the splits and run directories"
    )
    options.add_argument("--k", type=int, default=32, help="labelled images a class")
    options.add_argument("--seed", type=int, default=0, help="of the draw and of every training")
    options.add_argument("--teacher-network", default="torchvision/resnet50", help="family/name")
    options.add_argument("--teacher-weights", default="random", help="auto, pretrained, random or a file")
    options.add_argument("--teacher-epochs", type=float, default=6.0, help="training of the teacher")
    options.add_argument("--teacher-lr", type=float, default=1e-3, help="peak learning rate of the teacher")
    options.add_argument(
        "--small-images", action="store_true", help="the teacher is a ResNet with a stem for small images"
    )
    options.add_argument("--size", type=int, default=64, help="input of all networks, pixels")
    options.add_argument("--students", nargs="+", default=["timm/mobilenetv4_conv_small"], help="family/name")
    options.add_argument("--epochs", type=float, default=4.0, help="distillation of each student, over all views")
    options.add_argument("--loss-epochs", type=float, default=1.0, help="each run of the comparison of losses; 0: none")
    options.add_argument("--no-scratch", action="store_true", help="leave the students from random weights out")
    options.add_argument("--views", type=int, default=2, help="views of each transfer image")
    options.add_argument("--stop-after", help="name of the last step to run")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, write JSON and Markdown."""
    given = parser().parse_args(arguments)
    parts = draw(given.data, given.work / f"split-{given.k}-seed{given.seed}", given.k, given.seed)
    for step in steps(given, parts):
        if not step.made.exists():
            begin(step)
        if step.name == given.stop_after:
            return 0
    known = all_conditions()
    data = {"options": {k: str(v) for k, v in vars(given).items() if k not in ("work", "results", "data")}}
    data |= {"rows": rows(given), "conditions": known}
    network = given.teacher_network.split("/")[1]
    print(write_results(given.results, f"cifar10-{network}-{slug(known)}", data, markdown(data)))
    return 0


def draw(data: Path, out: Path, k: int, seed: int) -> dict[str, Path]:
    """Labelled, unlabelled, the teacher's training and validation, and test images, as folders of links."""
    if not (out / "done").exists():
        shutil.rmtree(out, ignore_errors=True)
        everything = class_folders(data / "train")
        if not (data / "test").is_dir():
            raise DataError(f"{data}: the folder test/ is missing.")
        labelled, rest = split_per_class(everything, k, seed)
        seen = LabelledImages(
            tuple(everything.paths[i] for i in rest), tuple(everything.labels[i] for i in rest), everything.classes
        )
        validation, _ = split_per_class(seen, 100, seed)
        of = {everything.paths[i]: "labelled" for i in labelled} | {seen.paths[i]: "teacher-val" for i in validation}
        for path, label in zip(everything.paths, everything.labels, strict=True):
            part, name = of.get(path, "rest"), everything.classes[label]
            if part != "teacher-val":
                place(path, out / "teacher-train" / name / path.name, link=True)
            place(path, out / ("labelled" if part == "labelled" else "transfer") / name / path.name, link=True)
            if part == "teacher-val":
                place(path, out / "teacher-val" / name / path.name, link=True)
        (out / "done").touch()
    names = ("labelled", "transfer", "teacher-train", "teacher-val")
    return {name: out / name for name in names} | {"test": data / "test"}


def steps(given: argparse.Namespace, parts: dict[str, Path]) -> list[Step]:
    """All commands, in order."""
    size, seed = ("--size", str(given.size)), ("--seed", str(given.seed))
    teacher = given.work / "teacher"
    fit = ["teacher", "fit", "--network", given.teacher_network, "--weights", given.teacher_weights]
    fit += ["--train", parts["teacher-train"], "--val", parts["teacher-val"], "--test", parts["test"]]
    fit += [*size, *seed, "--epochs", f"{given.teacher_epochs:g}"]
    fit += ["--lr", f"{given.teacher_lr:g}", "--augment", "light", *(["--small-images"] if given.small_images else [])]
    all_steps = [_step("teacher", fit, teacher)]
    labels = ["--train", parts["labelled"], "--test", parts["test"]]

    def distill(name: str, student: str, loss: str, epochs: float) -> Step:
        command = ["distill", "--teacher", f"run:{teacher}", "--student", student, "--transfer", parts["transfer"]]
        command += [*labels, *size, *seed, "--loss", loss, "--epochs", f"{epochs:g}", "--views", str(given.views)]
        command += ["--augment", "light"]
        return _step(name, command, given.work / name)

    for student in given.students:
        name = short(student)
        all_steps.append(distill(f"distill-{name}", student, LOSSES[0], given.epochs))
        if given.no_scratch:
            continue
        scratch = ["train", "scratch", "--student", student, *labels, *size, *seed]
        all_steps.append(_step(f"scratch-{name}", [*scratch, "--augment", "light"], given.work / f"scratch-{name}"))
    for student in given.students:
        name = short(student)
        run = given.work / f"distill-{name}"
        export = _kdedge("export", run, "--int8", "--overwrite")
        all_steps.append(Step(f"export-{name}", export, run / "student.int8.onnx"))
        report = given.work / f"int8-{name}.json"
        all_steps.append(
            Step(f"evaluate-{name}", _kdedge("evaluate", run / "student.int8.onnx", parts["test"], "--json"), report)
        )
    if given.loss_epochs:
        for loss in LOSSES:
            name = f"loss-{loss.replace('+', '-')}"
            all_steps.append(distill(name, given.students[0], loss, given.loss_epochs))
    return all_steps


def short(student: str) -> str:
    """``mobilenetv4_conv_small`` of ``timm/mobilenetv4_conv_small``."""
    return student.split("/")[-1]


def _step(name: str, command: Sequence[object], run: Path) -> Step:
    return Step(name, _kdedge(*command, "--out", run, "--json"), run / "result.json", run)


def _kdedge(*words: object) -> tuple[str, ...]:
    return (sys.executable, "-m", "kdedge", *(str(word) for word in words))


def begin(step: Step) -> None:
    """Run a step; what it prints on stdout is its result, kept beside the run."""
    command = list(step.command)
    if step.run and (step.run / "config.toml").exists():
        command.append("--resume")
    print(f"{step.name}: {' '.join(command[2:])}", file=sys.stderr, flush=True)
    done = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    if not step.made.exists():
        step.made.write_text(done.stdout, encoding="utf-8")


def rows(given: argparse.Namespace) -> list[dict[str, Any]]:
    """One record a network: what it is, and its scores on the test images."""
    found: list[dict[str, Any]] = []

    def read(path: Path) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        value.pop("run", None)  # a folder of this machine
        return value

    teacher = read(given.work / "teacher" / "result.json")
    found.append({"what": "teacher, all labels", "network": given.teacher_network, **teacher})
    for student in given.students:
        name = short(student)
        run = given.work / f"distill-{name}"
        int8 = read(given.work / f"int8-{name}.json")
        size = {"int8_bytes": (run / "student.int8.onnx").stat().st_size, "int8_accuracy": int8["accuracy"]}
        found.append(
            {"what": f"distilled, {given.k} labels a class", "network": student, **read(run / "result.json"), **size}
        )
        if not given.no_scratch:
            scratch = read(given.work / f"scratch-{name}" / "result.json")
            found.append({"what": f"scratch, {given.k} labels a class", "network": student, **scratch})
    if given.loss_epochs:
        for loss in LOSSES:
            result = read(given.work / f"loss-{loss.replace('+', '-')}" / "result.json")
            found.append({"what": f"loss {loss}, {given.loss_epochs:g} epochs", "network": given.students[0], **result})
    return found


def markdown(data: dict[str, Any]) -> str:
    """The result for people."""
    head = ("", "network", "test accuracy", "int8", "int8 MB", "teacher's linear probe", "held-out R2", "cosine")

    def cell(row: dict[str, Any], key: str, form: str = ".3f", scale: float = 1.0) -> str:
        return format(row[key] * scale, form) if row.get(key) is not None else ""

    body = [
        (
            row["what"],
            row["network"],
            cell(row, "test_accuracy"),
            cell(row, "int8_accuracy"),
            cell(row, "int8_bytes", ".2f", 1e-6),
            cell(row, "teacher_test_accuracy"),
            cell(row, "heldout_r2"),
            cell(row, "heldout_cosine"),
        )
        for row in data["rows"]
    ]
    options = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in data["options"].items())
    return f"# CIFAR-10\n\n{markdown_table(head, body)}\n{options}.\n\n{conditions_line(data['conditions'])}\n"


if __name__ == "__main__":
    sys.exit(main())
