"""One server of colours for the tests that do not change it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kdedge.runtime.classifier import Classifier
from tests.runtime.server.running import Held, Running, running
from tests.runtime.test_classifier import write_two_outputs


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of colours that gives an embedding, too."""
    path = tmp_path_factory.mktemp("served") / "colors.onnx"
    write_two_outputs(path)
    return path


@pytest.fixture(scope="package")
def colors(model: Path) -> Iterator[Running]:
    """A server with the default limits, but for the bytes of a body: 1 MB."""
    with Classifier(model, 1) as classifier, running(classifier, max_bytes=1_000_000) as server:
        yield server


@pytest.fixture
def held(model: Path) -> Iterator[Held]:
    """A classifier that can be made to wait."""
    with Held(model) as classifier:
        yield classifier
        classifier.free.set()
