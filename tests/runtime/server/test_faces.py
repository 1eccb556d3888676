"""A server that looks for faces, with a finder that calls every eighth of an image's width a face."""

import threading
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from kdedge.decode import Box, Image
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.server.engine import MOST_FACES, Engine
from kdedge.runtime.server.job import Batch, Job
from kdedge.runtime.server.settings import Settings
from tests.conftest import COLORS
from tests.runtime.server.running import Held, Running, picture, problem, running, wait_until

STRIP = 24
"""Pixels of a face; an image as wide as none has none."""


def strips(image: Image) -> list[tuple[Image, Box]]:
    """Each strip of an image as a face, at the size of the colours' network."""
    wide, high = STRIP, image.shape[0]
    lefts = range(0, image.shape[1] - wide + 1, wide)
    return [
        (cv2.resize(image[:, left : left + wide], (16, 16)), (float(left), 0.04, wide + left / 1e4, float(high)))  # type: ignore[misc]
        for left in lefts
    ]


def painted(*colors: str) -> bytes:
    """A PNG with a strip of each colour."""
    image = np.concatenate([np.full((20, STRIP, 3), COLORS[color][::-1], np.uint8) for color in colors], axis=1)
    return bytes(cv2.imencode(".png", image)[1])


@pytest.fixture(scope="module")
def faces(model: Path) -> Any:
    with Classifier(model, 1) as classifier, running(classifier, strips, batch=2) as server:
        yield server


def test_each_face_has_its_answer_and_place(faces: Running, model: Path) -> None:
    answer = faces.post(painted("green", "red", "blue"), picture("red", size=(10, 10)), painted("blue"), query="?top=2")
    assert answer.status_code == 200
    three, none, one = answer.json()["results"]
    assert [face["label"] for face in three["faces"]] == ["green", "red", "blue"]
    assert [face["box"] for face in three["faces"]] == [[24 * place, 0.0, 24.0, 20] for place in range(3)]
    assert none == {"source": "1.png", "faces": []}
    assert [face["label"] for face in one["faces"]] == ["blue"]
    wanted = Classifier(model, 1).predict([painted("green")], 2)[0]
    assert set(three["faces"][0]) == {"box", "label", "probability", "unknown", "score", "top"}
    assert [each["label"] for each in three["faces"][0]["top"]] == list(wanted.labels)
    assert three["faces"][0]["probability"] == pytest.approx(wanted.probability)
    assert set(three) == {"source", "faces"}
    times = answer.json()["ms"]
    assert all(0 <= value <= times["total"] for value in times.values())


def test_embeddings_of_faces(faces: Running, model: Path) -> None:
    found = faces.post(painted("red", "green"), query="?embedding=1").json()["results"][0]["faces"]
    wanted = Classifier(model, 1).embeddings([painted("red"), painted("green")])
    np.testing.assert_allclose([face["embedding"] for face in found], wanted, rtol=1e-6)


def test_of_many_faces_the_widest(faces: Running) -> None:
    """The finder's are wider from left to right."""
    names = [("red", "green", "blue")[place % 3] for place in range(MOST_FACES + 5)]
    found = faces.post(painted(*names)).json()["results"][0]["faces"]
    assert [face["label"] for face in found] == names[5:]
    assert [face["box"][0] for face in found] == [STRIP * place for place in range(5, MOST_FACES + 5)]


def test_what_cannot_be_read_stands_beside_faces(faces: Running) -> None:
    good, bad = faces.post(painted("red"), b"no image").json()["results"]
    assert good["faces"][0]["label"] == "red"
    assert bad["code"] == "not_an_image"
    assert problem(faces.post(b"no image"))["status"] == 422


def test_images_are_counted_and_not_their_faces(faces: Running) -> None:
    series = 'kdedge_images_total{outcome="classified"}'
    before = faces.metric(series)
    faces.post(painted("red", "green", "blue"), picture("red", size=(10, 10)))
    assert faces.metric(series) == before + 2
    assert faces.metric("kdedge_queue_images") == 0


def test_it_says_that_it_looks_for_faces(faces: Running, colors: Running) -> None:
    assert httpx.get(f"{faces.url}/v1/model").json()["faces"] is True
    assert httpx.get(f"{colors.url}/v1/model").json()["faces"] is False
    described = httpx.get(f"{faces.url}/openapi.json").json()["components"]["schemas"]
    assert {"box", "label", "top"} <= set(described["Face"]["properties"])


def test_a_client_that_leaves_while_its_faces_wait(held: Held) -> None:
    with running(held, strips, batch=1, timeout=0.5) as server:
        held.free.clear()
        gone = threading.Thread(target=server.post, args=(painted("red", "green", "blue"),))
        gone.start()
        gone.join(15)  # answered with 503 after half a second
        held.free.set()
        wait_until(lambda: server.metric("kdedge_queue_images") == 0)
        assert server.metric('kdedge_images_total{outcome="dropped"}') == 1
        found = server.post(painted("blue", "green")).json()["results"][0]["faces"]
        assert [face["label"] for face in found] == ["blue", "green"]


def test_a_network_that_fails_on_a_face_fails_on_the_image(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(held, strips, batch=1) as server:
        ask = held.predict_fitted

        def fails_on_the_second(*given: Any, **named: Any) -> Any:
            if len(held.runs) % 2:
                held.runs.append(0)
                raise RuntimeError("as a driver might")
            return ask(*given, **named)

        held.runs.clear()
        monkeypatch.setattr(held, "predict_fitted", fails_on_the_second)
        assert problem(server.post(painted("red", "green")))["code"] == "fault"
        assert server.metric('kdedge_images_total{outcome="failed"}') == 1


def test_a_part_is_told_of_once_whenever_its_client_leaves(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a job that is dropped just after it was looked at; twice told, it would be counted twice."""

    class Leaving(Job):
        asked = 0

        @property  # type: ignore[override]
        def dropped(self) -> bool:
            self.asked += 1
            return self.asked > 1

        @dropped.setter
        def dropped(self, _: bool) -> None:
            """It decides itself."""

    with Classifier(model, 1) as classifier:
        engine = Engine(classifier, Settings())
        told: list[Any] = []
        monkeypatch.setattr(engine, "_tell", lambda said, _seconds: told.extend(said))
        job = Leaving("a", b"", 1, False, Batch(1, None), 0.0)  # type: ignore[arg-type]
        engine._ready.put((job, 0, np.zeros((16, 16, 3), np.uint8)))
        engine._ready.put(None)
        engine._run()
    assert [(one, place) for one, place, _ in told] == [(job, 0)]
