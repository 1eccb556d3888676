"""A network on onnxruntime, held to what its card says."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdedge.card import ModelCard
from kdedge.errors import ModelError
from kdedge.runtime.providers import provider_of
from kdedge.runtime.session import open_session

__all__ = ["Network"]

ROUNDING = 1e-3
"""How far above 1 a probability may lie: float16 and int8 round."""


class Network:
    """The session of an ONNX file, its card, and the tensors that the card speaks of.

    Args:
        path, threads, provider, allow_fallback, say: see :class:`kdedge.runtime.classifier.Classifier`.

    Attributes:
        session: the ``onnxruntime.InferenceSession``; None once closed.
        answer: name of the output that classifies.
        fixed: images a run, where the file fixes them; else 0.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None,
        *,
        provider: str,
        allow_fallback: bool,
        say: Callable[[str], None] | None,
    ) -> None:
        self.path = path
        self.session = open_session(path, threads, provider=provider, allow_fallback=allow_fallback, say=say)
        self.provider = provider_of(self.session)
        self.card = ModelCard.from_metadata(self.session.get_modelmeta().custom_metadata_map, path)
        self._check()
        declared = self._given.shape[0]
        self.fixed: int = declared if isinstance(declared, int) else self.card.batch

    def _check(self) -> None:
        """Find the tensors that the card speaks of; ModelError if they are not those of the file."""
        card, size = self.card, self.card.preprocess.size
        made = {value.name: value for value in self.session.get_outputs()}
        for role, name in card.outputs.items():
            if name not in made:
                raise ModelError(
                    f"{self.path}: its card says that {name!r} holds the {role}; its outputs are {', '.join(made)}."
                )
        self._given = self.session.get_inputs()[0]
        if (name := card.input.get("name", self._given.name)) != self._given.name:
            raise ModelError(f"{self.path}: its input is {self._given.name!r}, its card speaks of {name!r}.")
        wanted = (card.batch or None, 3, size, size)
        if not _fits(self._given.shape, wanted) or self._given.type != "tensor(float)":
            raise ModelError(
                f"{self.path}: its input is {self._given.type} {self._given.shape}, its card speaks of "
                f"({card.batch or 'B'}, 3, {size}, {size})."
            )
        self.answer = card.answer or next(iter(made))
        shape = made[self.answer].shape
        if shape and not _fits(shape, (None, len(card.labels))):  # a shape that nobody declared is empty
            raise ModelError(f"{self.path}: its output is {shape}, its card has {len(card.labels)} labels.")

    @property
    def embedding(self) -> str:
        """Name of the output that holds embeddings; ModelError if there is none."""
        if name := self.card.embedding_output:
            return name
        raise ModelError(
            f"{self.path}: this file gives no embedding; export the student again with 'kdedge export RUN'."
        )

    def classify(self, batch: NDArray[np.float32], *more: str) -> list[NDArray[np.float32]]:
        """The output that classifies, (B, C), and more outputs by name; ModelError if it is not what the card says."""
        found = self.run(batch, [self.answer, *more])
        self._check_answer(found[0], len(batch))
        return found

    def _check_answer(self, answer: NDArray[np.float32], images: int) -> None:
        if answer.shape != (images, len(self.card.labels)):
            raise ModelError(
                f"{self.path}: it gave {answer.shape} for {images} images and {len(self.card.labels)} labels."
            )
        if self.card.probability_output and (answer.min() < 0 or answer.max() > 1 + ROUNDING):
            raise ModelError(
                f"{self.path}: its card says that {self.answer!r} holds probabilities; it holds {answer.min():.3g} to "
                f"{answer.max():.3g}, give it another card with 'kdedge card attach'."
            )

    def run(self, batch: NDArray[np.float32], outputs: list[str]) -> list[NDArray[np.float32]]:
        """Outputs for a batch of any size; a file that fixes the number of images gets the last one again and again."""
        if (session := self.session) is None:
            raise ModelError(f"{self.path}: this classifier was closed.")
        count, step = len(batch), self.fixed or len(batch)
        if missing := -count % step:
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        try:
            parts = [session.run(outputs, {self._given.name: batch[i : i + step]}) for i in range(0, len(batch), step)]
        except Exception as error:  # onnxruntime's errors have no common base but this one
            first = str(error).strip().splitlines()[:1] or ["no reason given"]
            raise ModelError(f"{self.path}: the network failed on {self.provider} ({first[0]}).") from error
        found = []
        for pieces in zip(*parts, strict=True):
            values = np.asarray(np.concatenate(pieces)[:count] if len(pieces) > 1 else pieces[0][:count], np.float32)
            if not np.isfinite(values).all():
                raise ModelError(f"{self.path}: the network gave values that are not finite; export it again.")
            found.append(values)
        return found


def _fits(shape: Sequence[int | str | None], wanted: Sequence[int | None]) -> bool:
    """Whether a declared shape, whose free axes are names or None, admits the wanted one."""
    if len(shape) != len(wanted):
        return False
    return all(have == want for have, want in zip(shape, wanted, strict=True) if isinstance(have, int) and want)
