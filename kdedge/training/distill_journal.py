"""What a distillation tells its run directory and its user while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from kdedge.training.checkpoint import load_state, read_about, save_state, save_weights
from kdedge.training.config import DistillConfig
from kdedge.training.curves import draw_curves
from kdedge.training.loop import Metrics, TrainingState
from kdedge.training.run import Run
from kdedge.training.verdict import Verdict, judge, short

__all__ = ["DistillJournal"]


@dataclass
class DistillJournal:
    """Records, curves, verdict and checkpoints of a pre-training.

    Attributes:
        title: of the curves.
        best: scores of the best evaluation so far, whose weights are in ``checkpoints/imitation.safetensors``.
    """

    run: Run
    config: DistillConfig
    say: Callable[[str], None]
    title: str
    best: Metrics = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)

    def take_up(self, state: TrainingState, main: bool = True) -> None:
        """Put the last checkpoint of an interrupted run into ``state``, if there is one; the main process tidies up."""
        if self.run.last.is_file():
            load_state(self.run.last, state)
        about = read_about(self.run.imitation) if state.step and self.run.imitation.is_file() else None
        if main:
            self.run.forget_after(state.step)
            self.run.sweep()
        if state.step == 0:
            return
        self.records = self.run.history()
        if about:
            found: Metrics = about["scores"]
            # a process that died between the two files has written the better one of a later step, which will come again
            self.best = found if found["step"] <= state.step else {}
        self.say(f"resumed at step {state.step:,}")

    def log(self, record: Metrics) -> None:
        """Told every record."""
        self.run.log(record)
        self.records.append(dict(record))
        if "cosine" not in record:
            return
        words = f"  epoch {record['epoch']:.1f}: held-out R2 {record['r2']:.3f}, cosine {record['cosine']:.3f}, "
        words += f"k-NN {record['knn']:.2f}"
        if "probe" in record:
            words += f", few-shot probe {record['probe']:.2f}"
        now = self.verdict()
        self.say(f"{words}; {short(now)}")
        self.draw(now)

    def keep(self, network: nn.Module, record: Metrics) -> None:
        """Told the averaged network (eval mode) at every evaluation; keeps the one with the best cosine."""
        if record["cosine"] > self.best.get("cosine", -2.0):
            self.best = dict(record)
            save_weights(self.run.imitation, network, {"scores": self.best})

    def save(self, state: TrainingState) -> None:
        """Told to keep a checkpoint to resume from."""
        save_state(self.run.last, state, {"student": self.config.student, "teacher": self.config.teacher})

    def verdict(self) -> Verdict:
        """How the training stands."""
        return judge(self.records, self.best or None)

    def draw(self, verdict: Verdict) -> None:
        """curves.png"""
        draw_curves(self.records, self.run.path / "curves.png", self.title, verdict)

    def note(self) -> str:
        """For the progress line: the last held-out scores and the verdict; images a second and waiting before."""
        last = next((record for record in reversed(self.records) if "cosine" in record), None)
        speed = next((record for record in reversed(self.records) if "images_per_s" in record), None)
        words = [f"{short(self.verdict())}, R2 {last['r2']:.2f} cos {last['cosine']:.2f}"] if last else []
        if speed:
            words.append(f"{speed['images_per_s']:.0f} images/s, {speed['data_wait']:.0%} waiting for data")
        return "; ".join(words)
