"""Answers: forms, raw bodies, batches, images that fail beside others."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from kdedge.runtime.classifier import Classifier
from tests.conftest import COLORS
from tests.runtime.knowing import OTHERS, painted, write_knowing
from tests.runtime.server.running import Held, Running, picture, problem, running, wait_until


def test_a_form_is_answered_as_the_classifier_would(colors: Running, model: Path) -> None:
    sent = [
        picture("green"),
        picture("red", ".jpg"),
        picture("blue", ".webp"),
        picture("red", ".bmp"),
        picture("blue", ".tiff"),
    ]
    answer = colors.post(*sent, query="?top=2")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    found = answer.json()
    assert found["model"] == "colors"
    assert [one["source"] for one in found["results"]] == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert [one["label"] for one in found["results"]] == ["green", "red", "blue", "red", "blue"]
    for one, wanted in zip(found["results"], Classifier(model, 1).predict(sent, 2), strict=True):
        assert one["top"] == [
            {"label": label, "probability": pytest.approx(probability)}
            for label, probability in zip(wanted.labels, wanted.probabilities, strict=True)
        ]
        assert one["probability"] == one["top"][0]["probability"]
        assert (one["unknown"], one["score"]) == (False, None)
        assert "embedding" not in one
    assert set(found["ms"]) == {"read", "queue", "decode", "inference", "total"}
    assert all(0 <= value <= found["ms"]["total"] for value in found["ms"].values())


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "image/anything; x=y", None])
def test_a_raw_body(colors: Running, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    found = httpx.post(f"{colors.url}/v1/classify", content=picture("blue"), headers=headers).json()["results"]
    assert [(one["source"], one["label"], len(one["top"])) for one in found] == [("body", "blue", 3)]


def test_embeddings_are_given_where_asked_for(colors: Running, model: Path) -> None:
    found = colors.post(picture("green"), query="?embedding=true").json()["results"][0]["embedding"]
    np.testing.assert_allclose(found, Classifier(model, 1).embeddings([picture("green")])[0], rtol=1e-6)


def test_a_model_without_embeddings_says_so(color_model: Path) -> None:
    with Classifier(color_model, 1) as classifier, running(classifier) as server:
        assert problem(server.post(picture(), query="?embedding=1"))["code"] == "no_embedding"


def test_unknown_images_and_enrolled_thresholds_are_told(tmp_path: Path, color_images: Path) -> None:
    path = write_knowing(tmp_path / "knowing.onnx", color_images)
    with Classifier(path, 1, unknown=0.9) as classifier, running(classifier) as server:
        strange = painted(OTHERS["yellow"], 1)[0]
        for image in (np.full((16, 16, 3), COLORS["red"], np.uint8), strange):
            import cv2

            data = bytes(cv2.imencode(".png", image[..., ::-1])[1])
            told, wanted = server.post(data).json()["results"][0], classifier.predict(image)[0]
            assert (told["unknown"], told["label"]) == (wanted.unknown, wanted.label)
            assert told["score"] == pytest.approx(wanted.score)
            assert told["top"][0]["label"] == wanted.labels[0]
        assert told["label"] == "unknown"
        assert httpx.get(f"{server.url}/v1/model").json()["threshold"] == 0.9


def test_one_bad_image_does_not_spoil_the_others(colors: Running) -> None:
    answer = colors.post(picture("red"), ("notes.txt", b"no image"), picture("green", ".jpg")[:-9], picture("blue"))
    assert answer.status_code == 200
    found = answer.json()["results"]
    assert [one.get("label") for one in found] == ["red", None, None, "blue"]
    assert set(found[1]) == {"source", "error", "code"}
    assert (found[1]["source"], found[1]["code"], found[2]["code"]) == ("notes.txt", "not_an_image", "undecodable")
    assert "truncated" in found[2]["error"]


def test_where_none_is_good_the_status_says_why(colors: Running) -> None:
    alone = colors.post(b"no image")
    assert alone.status_code == 422
    assert problem(alone)["code"] == "not_an_image"
    several = colors.post(b"no image", picture()[:30])
    assert several.status_code == 422
    assert [one["code"] for one in problem(several)["errors"]] == ["not_an_image", "undecodable"]
    bomb = bytearray(picture())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    large = colors.post(bytes(bomb), bytes(bomb))
    assert large.status_code == 413
    assert {one["code"] for one in problem(large)["errors"]} == {"too_many_pixels"}


def test_names_are_cleaned(colors: Running) -> None:
    sent = [
        ("../../etc/passwd", b"x"),
        ("C:\\dir\\a.png", b"x"),
        ("a\x1b[31m\u202e.png", b"x"),
        ("ä.png", b"x"),
        ("n" * 999, b"x"),
    ]
    found = [one["source"] for one in problem(colors.post(*sent))["errors"]]
    assert found[:2] == ["passwd", "a.png"]
    assert found[2].isprintable()
    assert found[3] == "ä.png"
    assert len(found[4]) == 200


@pytest.mark.parametrize("name", ["file", "files", "image", "images"])
def test_fields(colors: Running, name: str) -> None:
    assert colors.post(picture(), field_name=name).status_code == 200


def test_waiting_images_go_through_the_network_together(held: Held) -> None:
    with running(held, batch=4) as server, ThreadPoolExecutor(9) as pool:
        held.runs.clear()
        held.free.clear()
        answers = [
            pool.submit(server.post, picture(list(COLORS)[number % 3]), query=f"?top={1 + number % 3}")
            for number in range(9)
        ]
        wait_until(lambda: server.server.server_state.tasks and len(server.server.server_state.tasks) == 9)
        threading.Event().wait(0.2)  # all are decoded
        held.free.set()
        for number, answer in enumerate(answers):
            found = answer.result().json()["results"][0]
            assert found["label"] == list(COLORS)[number % 3]
            assert len(found["top"]) == 1 + number % 3
        assert sum(held.runs) == 9
        assert max(held.runs) == 4
        assert server.metric("kdedge_batch_images_sum") == 9
