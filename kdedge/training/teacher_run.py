"""Teachers that ``kdedge teacher fit`` (or any other training on labels) left: ``run:DIR``."""

from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray

from kdedge.training.connector import WithConnector
from kdedge.training.run import load_run
from kdedge.training.teachers import look

__all__ = ["RunTeacher"]


class RunTeacher:
    """A finished run's network up to its penultimate layer, in eval mode, without gradients.

    Attributes:
        concepts: the network has a connector; then the activations are its concept logits, whose sigmoid is what the BCE
            method imitates (the paper's S10).
        classes: the class names that :meth:`logits` are about.
    """

    def __init__(self, directory: str) -> None:
        loaded = load_run(directory)
        self.name = f"run:{loaded.card.name}"
        self.preprocess = loaded.card.preprocess
        self.classes = loaded.card.labels
        self.precision = "fp32"
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = loaded.student.requires_grad_(False).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.eval()
        self.concepts = isinstance(network.trunk, WithConnector)
        self.dim = int(network.dim)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Fitted RGB images (B, size, size, 3), uint8, to activations (B, dim)."""
        trunk = self._network.trunk
        network = trunk.concept_logits if isinstance(trunk, WithConnector) else trunk
        return look(network, images, self.preprocess, self.device, self.precision)

    def logits(self, activations: NDArray[np.floating]) -> NDArray[np.float32]:
        """Activations of :meth:`embed` (N, dim) to class logits (N, C)."""
        with torch.inference_mode():
            given = torch.from_numpy(np.array(activations, np.float32)).to(self.device)
            found: NDArray[np.float32] = (
                self._network.head(torch.sigmoid(given) if self.concepts else given).cpu().numpy()
            )
        return found

    def fingerprint(self) -> str:
        """Changes whenever the activations of an image could."""
        digest = sha256(f"run {self.preprocess} {self.concepts} {self.precision}".encode())
        for key, tensor in self._network.trunk.state_dict().items():
            digest.update(key.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()
