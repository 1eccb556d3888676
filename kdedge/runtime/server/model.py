"""What a server tells about its model, and the file itself."""

import os
from pathlib import Path
from typing import Any

from kdedge import __version__
from kdedge.files import sha256_of
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.server.errors import Problem
from kdedge.runtime.server.settings import Settings

__all__ = ["ServedModel"]


class ServedModel:
    """The model as it was when the server started."""

    def __init__(self, classifier: Classifier, settings: Settings, *, faces: bool = False) -> None:
        self.path = Path(os.path.abspath(classifier.path))  # noqa: PTH100  a link stays a link
        self.sha256 = sha256_of(self.path)
        self._state = self._now()
        card = classifier.card.to_dict()
        del card["provenance"]  # commands with paths
        self.name = classifier.card.name
        self.told: dict[str, Any] = {
            **card,
            "enrolled": list(classifier.labels[len(classifier.card.labels) :]),
            "threshold": classifier.threshold,
            "faces": faces,
            "sha256": self.sha256,
            "bytes": self.path.stat().st_size,
            "provider": classifier.provider,
            "version": __version__,
            "download": settings.download,
            "needs_key": bool(settings.keys),
            "limits": {
                "bytes": settings.max_bytes,
                "pixels": settings.max_pixels,
                "files": settings.max_files,
                "queue": settings.queue,
                "seconds": settings.timeout,
            },
        }

    def _now(self) -> tuple[int, int]:
        state = self.path.stat()
        return state.st_mtime_ns, state.st_size

    def file(self) -> Path:
        """The file; Problem 409 if it is another by now, 404 if it is gone."""
        try:
            same = self._now() == self._state
        except OSError:
            raise Problem(404, "no_file", "The model file is no longer there.") from None
        if not same:
            raise Problem(409, "changed", "The model file has changed since the server was started.")
        return self.path
