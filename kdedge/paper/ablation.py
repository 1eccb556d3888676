"""The paper's contrast "regression fails, binary cross entropy works", taken apart: input right or wrong x loss (2 x 2).

In the paper's regression runs the teacher, which wants BGR pixels minus a mean, saw RGB/255; in its BCE runs the teacher had
been fine-tuned on such input first. Here the same teacher, student and images meet both inputs and both losses.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdedge.errors import RunError
from kdedge.files import write_json, write_text
from kdedge.paper.imitation import imitate, prepare, with_logistic_head
from kdedge.paper.material import PaperData
from kdedge.paper.plan import Method, Plan, Scale
from kdedge.paper.runner import Cell, Outcome, run_cells
from kdedge.paper.tables import spread
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars
from kdedge.training.engine import Engine, set_threads
from kdedge.training.loop import LoopConfig
from kdedge.training.students import build_student, default_preprocess
from kdedge.training.supervised import score
from kdedge.training.teachers import Teacher

__all__ = ["ablate", "conclusion", "r2_plain", "wrong_input"]

Say = Callable[[str], None]
INPUTS, LOSSES = ("right", "wrong"), ("mse", "bce")
RAW = "raw-mse"
FIGURES = ("r2", "r2_plain", "cosine", "accuracy")


def wrong_input(right: Preprocess) -> Preprocess:
    """What the paper's code fed its teacher: RGB/255, whatever the teacher expects.

    Raises:
        RunError: the teacher expects just that.
    """
    wrong = Preprocess(right.size, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0), "rgb", right.resize)
    if wrong == right:
        raise RunError(
            "the teacher expects RGB/255 already, so there is no wrong input to compare; take another teacher."
        )
    return wrong


def r2_plain(target: NDArray[np.floating], predicted: NDArray[np.floating]) -> float:
    """Plain average over dimensions of R2 of (N, D), as the paper computed it; dimensions that never vary are left out."""
    target, predicted = np.asarray(target, np.float64), np.asarray(predicted, np.float64)
    total = ((target - target.mean(0)) ** 2).sum(0)
    alive = total > 0
    if not alive.any():
        return 0.0
    residual = ((target - predicted) ** 2).sum(0)
    return float(np.mean(1.0 - residual[alive] / total[alive]))


def _methods(student: str, raw: bool) -> tuple[Method, ...]:
    pairs = [(shown, loss) for shown in INPUTS for loss in LOSSES]
    pairs += [(shown, RAW) for shown in INPUTS] if raw else []
    return tuple(
        Method(f"{shown}-{loss}", 5, f"{shown} input, {loss}", "feature-kd", student, loss=loss, paper=False)
        for shown, loss in pairs
    )


@dataclass(frozen=True)
class _Bench:
    teacher: Teacher
    right: Preprocess
    scale: Scale
    data: PaperData
    engine: Engine
    bars: Bars
    say: Say

    def run(self, method: Method, seed: int, folder: Path) -> Outcome:  # noqa: ARG002
        shown, loss = method.name.split("-", 1)
        raw = loss == RAW
        self.teacher.preprocess = self.right if shown == "right" else wrong_input(self.right)
        lesson = prepare(self.teacher, self.data, self.scale, raw, self.bars)
        torch.manual_seed(seed)
        size = self.scale.size_of(method.network)
        preprocess = default_preprocess(method.network, size)
        student = build_student(method.network, len(self.data.classes), "random", size, self.say)
        batch = self.scale.pretraining_batch
        steps = self.scale.pretraining.of(min(self.scale.draw or len(lesson.rows), len(lesson.rows)), batch)
        loop = LoopConfig(
            steps,
            batch=batch,
            lr=self.scale.lr,
            weight_decay=self.scale.weight_decay,
            evaluations=min(self.scale.evaluations, steps),
            seed=seed,
            optimizer=self.scale.optimizer,
            schedule=self.scale.schedule,
        )
        name = "mse" if raw else loss
        done = imitate(student, lesson, name, preprocess, loop, self.engine, self.bars, self.scale.draw)
        headed, _ = with_logistic_head(
            done.regressor.trunk, student.dim, lesson, len(self.data.classes), preprocess, self.engine, seed
        )
        test = score(headed, self.data.test.images, self.data.test.labels, preprocess, self.engine)
        spans = np.asarray(lesson.bank.activations[lesson.rows]).std(0)
        scores = {
            "r2": done.scores["r2"],
            "r2_plain": r2_plain(done.target, done.predicted),
            "cosine": done.scores["cosine"],
            "accuracy": test["accuracy"],
        }
        about = {"steps": steps, "teacher_deviation": f"{float(spans.mean()):.4g}", "input": f"{preprocess.size} px"}
        return Outcome(scores, done.history, about)


def ablate(
    teacher: Teacher,
    data: PaperData,
    scale: Scale,
    student: str,
    seeds: Sequence[int],
    out: Path,
    *,
    raw: bool,
    resume: bool,
    recompute: bool,
    bars: Bars,
    say: Say,
) -> dict[str, Any]:
    """Run the 2 x 2 cells for every seed and write ``ablation.md`` and ``ablation.json``.

    Targets are standardised; BCE compares with their sigmoid. R2, plain and weighted by variance, and cosine are those of
    held-out images, accuracy that of a logistic head on the test images.

    Args:
        raw: also regress the activations as they are, like the paper, with either input.

    Returns:
        What ``ablation.json`` holds.

    Raises:
        RunError: the teacher expects RGB/255, or see :func:`run_cells`.
    """
    set_threads()
    right = teacher.preprocess
    wrong = wrong_input(right)
    plan = Plan(scale, _methods(student, raw), tuple(seeds))
    teacher.preprocess = right
    about = data.about()
    identity = {"pixels": about["pixels"], "teacher": teacher.fingerprint()}
    bench = _Bench(teacher, right, scale, data, Engine.choose(), bars, say)
    try:
        cells = run_cells(plan, out, identity, bench.run, resume=resume, recompute=recompute, say=say)
    finally:
        teacher.preprocess = right
    rows = [_row(method, cells) for method in plan.methods]
    result = {
        "teacher": teacher.name,
        "student": student,
        "scale": scale.name,
        "seeds": list(seeds),
        "inputs": {"right": right.to_dict(), "wrong": wrong.to_dict()},
        "data": about,
        "rows": rows,
        "verdict": conclusion({row["method"]: row["scores"] for row in rows}),
    }
    write_json(out / "ablation.json", result)
    write_text(out / "ablation.md", _markdown(result))
    return result


def _row(method: Method, cells: Sequence[Cell]) -> dict[str, Any]:
    ran = [cell for cell in cells if cell.method == method.name]
    scores = {
        name: spread([cell.outcome.scores[name] for cell in ran if name in cell.outcome.scores]) for name in FIGURES
    }
    shown, loss = method.name.split("-", 1)
    return {
        "method": method.name,
        "input": shown,
        "loss": loss,
        "scores": scores,
        "about": dict(ran[0].outcome.about),
        "seconds": round(sum(cell.seconds for cell in ran), 1),
    }


def conclusion(scores: Mapping[str, Mapping[str, Mapping[str, Any] | None]]) -> str:
    """One sentence: which of the four learn (mean held-out R2 above 0), and what costs more R2, the input or the loss.

    Args:
        scores: ``right-mse``, ``right-bce``, ``wrong-mse``, ``wrong-bce`` to spreads of ``r2``.
    """
    r2 = {name: _mean(scores[name], "r2") for name in (f"{shown}-{loss}" for shown in INPUTS for loss in LOSSES)}
    learns = [name for name in r2 if r2[name] > 0.0]
    figures = ", ".join(f"{name.replace('-', ' input ')} {value:.3f}" for name, value in r2.items())
    if len(learns) == 4:
        found = "regression and binary cross entropy both learn, with the right input and with the wrong one"
    elif set(learns) == {"right-mse", "right-bce"}:
        found = "both losses learn with the right input and neither with the wrong one: the input made the difference"
    elif set(learns) == {"right-bce", "wrong-bce"}:
        found = "only binary cross entropy learns, whatever the input: the loss made the difference"
    elif not learns:
        found = "nothing learns here, so nothing can be told"
    else:
        found = f"only {' and '.join(name.replace('-', ' input ') for name in learns)} learn{'s' if len(learns) == 1 else ''}"
    by_input = float(np.mean([r2[f"right-{loss}"] - r2[f"wrong-{loss}"] for loss in LOSSES]))
    by_loss = float(np.mean([r2[f"{shown}-bce"] - r2[f"{shown}-mse"] for shown in INPUTS]))
    return (
        f"By held-out R2 ({figures}) {found}; the right input changes R2 by {by_input:+.3f} on average, binary cross entropy "
        f"instead of MSE by {by_loss:+.3f}."
    )


def _mean(scores: Mapping[str, Mapping[str, Any] | None], name: str) -> float:
    found = scores[name]
    return float("-inf") if found is None else float(found["mean"])


def _markdown(result: Mapping[str, Any]) -> str:
    wrong, right = result["inputs"]["wrong"], result["inputs"]["right"]
    about = (
        f"Teacher {result['teacher']}, student {result['student']} from random weights, scale `{result['scale']}`, seeds "
        f"{', '.join(map(str, result['seeds']))}; mean ± sample standard deviation. Right input: {_input(right)}; wrong "
        f"input: {_input(wrong)}. R² and cosine on held-out images (R² weighted by variance, and as a plain average over "
        "dimensions), accuracy of a logistic head on the test images."
    )
    lines = [
        "# Teacher input x loss",
        "",
        result["verdict"],
        "",
        about,
        "",
        "| teacher input | loss | R² | R², plain | cosine | test accuracy | deviation of activations |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in result["rows"]:
        told = [_cell(row["scores"][name]) for name in FIGURES]
        cells = [row["input"], row["loss"], *told, row["about"]["teacher_deviation"]]
        lines.append("| " + " | ".join(cells) + " |")
    if any(row["loss"] == RAW for row in result["rows"]):
        lines += ["", f"`{RAW}`: the paper's targets, activations that are not standardised."]
    lines += ["", *(f"- {note}" for note in result["data"]["notes"])]
    return "\n".join([*lines, ""])


def _input(value: Mapping[str, Any]) -> str:
    mean, std = (", ".join(f"{x:g}" for x in value[key]) for key in ("mean", "std"))
    return f"{value['color'].upper()}, minus ({mean}), divided by ({std})"


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "not finite"
    return f"{value['mean']:.3f}" if value["std"] is None else f"{value['mean']:.3f} ± {value['std']:.3f}"
