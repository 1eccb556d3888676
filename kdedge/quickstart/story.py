"""``kdedge quickstart`` step by step; each step is what a command of its own does."""

import importlib.metadata
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdedge.data.faces import align
from kdedge.data.folder import class_folders
from kdedge.errors import RunError
from kdedge.export.networks import network_onnx
from kdedge.export.result import ExportResult
from kdedge.files import write_json
from kdedge.preprocess import decode
from kdedge.progress import Bars
from kdedge.quickstart.baselines import Shift, scratch_accuracy, shift_accuracy
from kdedge.quickstart.exporting import export_demo
from kdedge.quickstart.material import CROP, DemoData, demo_data, demo_teacher, face_finder, photograph_to_test
from kdedge.runtime.classifier import Classifier, Prediction
from kdedge.runtime.compare import Candidate, Comparison, compare
from kdedge.runtime.evaluate import Evaluation, evaluate
from kdedge.runtime.session import default_threads
from kdedge.training.config import DistillConfig
from kdedge.training.distill import Distilled, distill
from kdedge.training.run import Run
from kdedge.training.students import DEFAULT_STUDENT

__all__ = ["PAPER_TEACHER", "QuickstartConfig", "Story", "quickstart"]

Say = Callable[[str], None]

PAPER_TEACHER = "torchvision/resnet50"  # the network whose speed and size the student is compared with
GENERATED = 500  # faces of the generator in the transfer set
VIEWS = 20  # views of each labelled crop
SHIFT_SHARE = 0.5  # the side experiment trains this long, relative to the student
RESERVE = 75.0  # seconds kept back for heads, export, benchmark and report
LEAST_TRAINING = 60.0  # seconds, however small the budget


@dataclass(frozen=True)
class QuickstartConfig:
    """What can be chosen.

    Attributes:
        out: run directory to make.
        budget: minutes that everything together should take; training gets what the other steps leave.
    """

    out: Path
    seed: int = 0
    budget: float = 5.5
    student: str = DEFAULT_STUDENT
    student_weights: str = "auto"

    def __post_init__(self) -> None:
        if self.budget <= 0:
            raise RunError(f"--budget is {self.budget:g} minutes; it must be above zero.")
        if self.seed < 0:
            raise RunError(f"--seed is {self.seed}; it must not be negative.")


@dataclass(frozen=True)
class Story:
    """All that happened: what ``summary.json`` holds, and what the report shows besides."""

    run: Run
    summary: dict[str, Any]
    distilled: Distilled
    exported: ExportResult
    evaluation: Evaluation
    predictions: list[Prediction]
    truth: list[str]
    comparison: Comparison


def quickstart(config: QuickstartConfig, *, bars: Bars, say: Say) -> Story:
    """Run the whole story and leave a run directory with ``summary.json``.

    Raises:
        RunError: ``config.out`` exists.
        KdedgeError: the demo wheels or the student cannot be had.
    """
    begun = time.perf_counter()
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str, title: str) -> Iterator[None]:
        say(f"\n{title}")
        entered = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - entered

    run = Run.create(config.out)
    with step("data", "1/8  Images: ten synthetic people, and generated faces as unlabelled transfer set"):
        data = demo_data(run.path / "data", GENERATED, config.seed, bars, say)
        teacher = demo_teacher(say)

    def training_minutes() -> float:
        left = 60.0 * config.budget - (time.perf_counter() - begun) - RESERVE
        share = left / (2.0 + SHIFT_SHARE)
        if share < LEAST_TRAINING:
            say(
                f"warning: the images and the teacher took most of the {config.budget:g} minutes; the student is trained for "
                f"{LEAST_TRAINING:.0f} s only. What is cached now is reused: run it again, or give more with --budget."
            )
        return max(LEAST_TRAINING, share) / 60.0

    with step("distill", "2/8  Distil: the student imitates the teacher's activations, then its head is fitted"):
        settings = _settings(config, run, data, teacher)
        done = distill(settings, run=run, minutes=training_minutes, bars=bars, say=say)
    trained = done.loop.seconds or 0.0
    with (
        step("scratch", "3/8  Baseline: the same network from scratch on the labels, same wall time"),
        bars("Training from scratch") as progress,
    ):
        scratch = scratch_accuracy(done, config.student, trained, config.seed, progress)
    with (
        step("shift", "4/8  Harder: learn from studio emotion sheets, test on all other photographs"),
        bars("Distilling for the harder split") as progress,
    ):
        time_for_it = SHIFT_SHARE * trained
        shift = shift_accuracy(
            done, done.teacher, config.student, config.student_weights, time_for_it, config.seed, progress
        )
    with step("export", "5/8  Export: fp32 and int8 ONNX, checked against the network"):
        exported = export_demo(done, run, config.seed, bars, say)
        run.write_card(exported.card)
    with step("evaluate", "6/8  Evaluate the files on the test crops, as the device would"):
        fp32, int8, predictions, truth = _evaluate(exported, data)
    with step("bench", "7/8  Benchmark against ResNet-50 in the same runtime"):
        comparison = _bench(exported, config.student, len(done.card.labels), bars)
    with step("classify", "8/8  Classify one test photograph"):
        photograph, person = photograph_to_test(run.path / "data", data.test, config.seed)
        shown = _classify_photograph(exported, photograph, say)
        say(f"  {photograph}: {shown.label} ({shown.probability:.0%}), it shows {person}")
    seconds |= {f"distill.{name}": value for name, value in done.seconds.items()}
    seconds["total"] = time.perf_counter() - begun
    summary = _summary(config, done, exported, scratch, shift, fp32, int8, comparison, seconds)
    summary["classified"] = {
        "image": str(photograph),
        "label": shown.label,
        "probability": shown.probability,
        "truth": person,
    }
    write_json(run.path / "summary.json", summary)
    return Story(run, summary, done, exported, int8, predictions, truth, comparison)


def _settings(config: QuickstartConfig, run: Run, data: DemoData, teacher: Path) -> DistillConfig:
    return DistillConfig(
        teacher=f"onnx:{teacher}",
        student=config.student,
        out=str(run.path),
        transfer=str(data.transfer),
        train=str(data.train),
        test=str(data.test),
        size=CROP,
        views=1,
        train_views=VIEWS,
        minutes=1.0,  # replaced once the time that is left is known
        evaluations=2,
        student_weights=config.student_weights,
        seed=config.seed,
    )


def _evaluate(exported: ExportResult, data: DemoData) -> tuple[Evaluation, Evaluation, list[Prediction], list[str]]:
    assert exported.int8 is not None
    test = class_folders(data.test, exported.card.labels)
    with_int8 = Classifier(exported.int8.path, unknown="never")
    fp32, int8 = (evaluate(model, test) for model in (Classifier(exported.fp32.path), with_int8))
    predictions = with_int8.predict(list(test.paths), top=3)
    return fp32, int8, predictions, [test.classes[label] for label in test.labels]


def _classify_photograph(exported: ExportResult, photograph: Path, say: Say) -> Prediction:
    assert exported.int8 is not None
    image = decode(photograph)
    face = max(face_finder(say).find(image), key=lambda found: found.box[2])
    return Classifier(exported.int8.path).predict(align(image, face.landmarks, CROP), top=3)[0]


def _bench(exported: ExportResult, student: str, classes: int, bars: Bars) -> Comparison:
    assert exported.int8 is not None
    candidates = [
        Candidate(student, "fp32", exported.fp32.path, exported.card.parameters),
        Candidate(student, "int8", exported.int8.path, exported.card.parameters),
    ]
    with bars("Making ResNet-50 for comparison") as progress:
        fp32 = network_onnx(
            PAPER_TEACHER, CROP, "fp32", classes, lambda done, total, _note="": progress(done, 2 * total)
        )
        int8 = network_onnx(
            PAPER_TEACHER, CROP, "int8", classes, lambda done, total, _note="": progress(total + done, 2 * total)
        )
    candidates += [
        Candidate(PAPER_TEACHER, "fp32", fp32, role="teacher"),
        Candidate(PAPER_TEACHER, "int8", int8, role="teacher"),
    ]
    with bars("Timing, in turns") as progress:
        return compare(candidates, CROP, default_threads(), repeats=100, progress=progress)


def _summary(
    config: QuickstartConfig,
    done: Distilled,
    exported: ExportResult,
    scratch: float,
    shift: Shift,
    fp32: Evaluation,
    int8: Evaluation,
    comparison: Comparison,
    seconds: dict[str, float],
) -> dict[str, Any]:
    rows = comparison.rows
    names = ("student_fp32", "student_int8", "resnet50_fp32", "resnet50_int8")
    assert exported.quantized is not None
    assert exported.int8 is not None
    material = done.material
    bench = comparison.to_dict()
    for row in bench["rows"]:
        del row["path"]
    return {
        "noun": "people",
        "seed": config.seed,
        "budget_minutes": config.budget,
        "student": config.student,
        "student_weights": done.student.weights,
        "teacher": done.card.teacher,
        "teacher_accuracy": done.scores["teacher_test_accuracy"],
        "scratch_accuracy": scratch,
        "student_fp32_accuracy": fp32.scores.accuracy,
        "student_int8_accuracy": int8.scores.accuracy,
        "shift_accuracy": shift.student,
        "teacher_shift_accuracy": shift.teacher,
        "shift": {
            "labelled": shift.labelled,
            "tested": shift.tested,
            "seconds": SHIFT_SHARE * (done.loop.seconds or 0.0),
        },
        **{key: done.scores[key] for key in ("heldout_r2", "heldout_cosine", "heldout_knn", "test_r2", "test_cosine")},
        "verdict": done.verdict,
        "training_seconds": done.loop.seconds,
        "precision": done.engine.precision,
        "int8_bytes": exported.int8.bytes,
        "fp32_bytes": exported.fp32.bytes,
        "resnet50_fp32_bytes": rows[2].bytes,
        "resnet50_int8_bytes": rows[3].bytes,
        "p50_ms": {name: row.latency.p50_ms for name, row in zip(names, rows, strict=True)},
        "speedup": comparison.speedup(rows[1]),
        "size_ratio": comparison.shrink(rows[1]),
        "int8_conv_share": exported.quantized.fusion.share,
        "parity": {"fp32": exported.fp32.parity.to_dict(), "int8": exported.int8.parity.to_dict()},
        "images": {
            "labelled": len(material.train.paths) if material.train else 0,
            "test": int8.images,
            "transfer": len(material.transfer_paths),
            "heldout": len(material.heldout_paths()),
            "views": len(done.rows),
            "shift": shift.tested,
        },
        "seconds": seconds,
        "bench": bench,
        "versions": {name: importlib.metadata.version(name) for name in ("kdedge", "torch", "onnx", "numpy")},
        "limits": [
            f"{int8.images} test crops: one crop is {1 / int8.images:.1%} of accuracy.",
            "The people are synthetic, and train and test crops come from the same few photo sessions.",
            "The transfer set holds unlabelled views of the labelled crops; no test crop is in it.",
            "Latency is that of this machine; 'kdedge bench' repeats it elsewhere.",
        ],
    }
