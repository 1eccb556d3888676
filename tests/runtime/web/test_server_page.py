"""The page of ``kdedge serve`` in Chromium, with the real server behind it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Route, expect

from kdedge.runtime.classifier import Classifier
from kdedge.runtime.server.settings import Settings
from kdedge.runtime.web.ort_web import Runtime
from tests.runtime.web.browser import Watch

if TYPE_CHECKING:
    from kdedge.runtime.server.job import Finder

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

KEY = "a-key-of-some-length-0123"


@contextmanager
def served(model: Path, finder: "Finder | None" = None, **settings: object) -> Iterator[str]:
    """The URL of a server."""
    from kdedge.runtime.server.app import create_app
    from kdedge.runtime.server.run import address, listen, make_server

    given = replace(Settings(port=0), **settings)  # type: ignore[arg-type]
    with Classifier(model, 1, provider="cpu") as classifier:
        listening = listen(given.host, given.port)
        server = make_server(create_app(classifier, given, finder=finder), given)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield address(listening)
        finally:
            server.should_exit = True
            thread.join(15)
            listening.close()


def test_on_the_server_and_in_the_browser(
    runtime: Runtime, color_model: Path, color_images: Path, context: BrowserContext
) -> None:
    red, green = (color_images / name / "1.png" for name in ("red", "green"))
    with served(color_model) as root:
        page = context.new_page()
        watch = Watch.over(page)
        page.goto(root)
        expect(page.locator("#place-note")).to_have_text("Pictures are sent to the server.")
        expect(page.locator("#facts")).to_contain_text("on the server, cpu")
        page.set_input_files("#files", red)
        expect(page.locator("#label")).to_have_text("red")
        expect(page.locator("#times")).to_contain_text("network and page")
        told = page.inner_text("#probability")
        assert not [each for each in watch.asked if each.endswith(".wasm")]  # 14 MB that nobody asked for

        page.locator("text=In this browser").click()
        expect(page.locator("#place-note")).to_have_text("Pictures stay on this device.")
        expect(page.locator("#facts")).to_contain_text("first run")
        expect(page.locator("#times")).to_contain_text("preprocess")  # the same picture once more
        expect(page.locator("#label")).to_have_text("red")
        expect(page.locator("#probability")).to_have_text(told)
        posts = len([each for each in watch.asked if "/v1/classify" in each])
        page.set_input_files("#files", green)
        expect(page.locator("#label")).to_have_text("green")
        assert len([each for each in watch.asked if "/v1/classify" in each]) == posts == 1
        assert page.evaluate("crossOriginIsolated")  # so that there may be threads

        page.locator("text=On the server").click()
        page.click("#camera")
        expect(page.locator("#rate")).to_contain_text("frames/s")
        expect(page.locator("#label")).to_have_text("green")
        page.click("#camera")
        assert watch.said == []
        assert watch.elsewhere(root) == []


def test_what_the_server_refuses(
    color_model: Path, color_images: Path, context: BrowserContext, tmp_path: Path
) -> None:
    """Without onnxruntime-web, with a key and small limits."""
    red = color_images / "red" / "1.png"
    with served(color_model, keys=(KEY,), max_bytes=5000) as root:
        page = context.new_page()
        page.goto(root)
        expect(page.locator("#key-form")).to_be_visible()
        page.fill("#key", "not-the-key-of-this-server")
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_be_visible()
        expect(page.locator("#key")).to_have_value("")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_be_hidden()
        expect(page.locator("#place-note")).to_contain_text("python -m kdedge.runtime.web.vendor")
        expect(page.locator("input[value=browser]")).to_be_disabled()
        page.set_input_files("#files", red)
        expect(page.locator("#label")).to_have_text("red")

        note, large = tmp_path / "note.txt", tmp_path / "large.png"
        note.write_text("no image")
        large.write_bytes(bytes(6000))
        page.set_input_files("#files", note)
        expect(page.locator("#problem")).to_contain_text("The 8 bytes are no JPEG")
        page.set_input_files("#files", large)
        expect(page.locator("#problem")).to_contain_text("has 6 kB, the server takes 5 kB")

        full = 2

        def answer(route: Route) -> None:
            nonlocal full
            full -= 1
            if full >= 0:
                route.fulfill(status=503, headers={"Retry-After": "0"}, json={"detail": "128 images wait already."})
            else:
                route.continue_()

        page.route("**/v1/classify*", answer)
        page.set_input_files("#files", red)
        expect(page.locator("#waiting")).to_contain_text("busy")
        expect(page.locator("#result")).to_be_visible()  # asked again, and answered
        assert full == -1
        full = 100
        page.set_input_files("#files", red)
        expect(page.locator("#problem")).to_contain_text("too much to do")
        full = 0
        page.click("#again")
        expect(page.locator("#problem")).to_be_hidden()
        page.unroute("**/v1/classify*")
    page.set_input_files("#files", red)
    expect(page.locator("#problem")).to_contain_text("cannot be reached")
    expect(page.locator("#again")).to_be_visible()


def test_faces(runtime: Runtime, color_model: Path, context: BrowserContext, tmp_path: Path) -> None:
    """Boxes lie where the server says, each can be looked at, and in the browser no faces are looked for."""
    from tests.runtime.server.test_faces import STRIP, painted, strips

    three, one, none = (tmp_path / name for name in ("three.png", "one.png", "none.png"))
    three.write_bytes(painted("red", "green", "blue"))
    one.write_bytes(painted("blue"))
    none.write_bytes(bytes(cv2.imencode(".png", np.zeros((30, STRIP - 4, 3), np.uint8))[1]))
    with served(color_model, strips) as root:
        page = context.new_page()
        watch = Watch.over(page)
        page.goto(root)
        expect(page.locator("#purpose")).to_contain_text("looks for faces")
        page.set_input_files("#files", three)
        expect(page.locator("#label")).to_have_text("red")
        people = page.locator("#people button")
        expect(people).to_have_count(3)
        expect(page.locator("#status")).to_have_text("3 faces: red, green, blue")
        expect(page.locator("#seen")).to_be_hidden()
        shown = page.locator("#shown").bounding_box()
        boxes = [each.bounding_box() for each in page.locator("#boxes .face").all()]
        assert shown
        for place, box in enumerate(boxes):
            assert box
            assert box["x"] == pytest.approx(shown["x"] + place * shown["width"] / 3, abs=1.5)
            assert box["width"] == pytest.approx(shown["width"] / 3, abs=1.5)
            assert box["height"] == pytest.approx(shown["height"], abs=1.5)
        people.nth(1).click()
        expect(page.locator("#label")).to_have_text("green")
        expect(people.nth(1)).to_have_attribute("aria-pressed", "true")
        page.locator("#boxes .face").nth(2).click()
        expect(page.locator("#label")).to_have_text("blue")
        page.set_input_files("#files", none)
        expect(page.locator("#waiting")).to_have_text("No face was found.")
        page.set_input_files("#files", one)
        expect(page.locator("#label")).to_have_text("blue")
        expect(page.locator("#people")).to_be_hidden()
        expect(page.locator("#past button")).to_have_count(3)
        page.locator("#past button").nth(2).click()  # the first picture once more
        expect(people).to_have_count(3)
        with page.expect_download() as download:
            page.click("#save")
        lines = download.value.path().read_text(encoding="utf-8").splitlines()
        told = [line.split(",")[:2] for line in lines[1:]]
        assert told == [
            ["three.png#1", "red"],
            ["three.png#2", "green"],
            ["three.png#3", "blue"],
            ["one.png#1", "blue"],
        ]

        page.locator("text=In this browser").click()
        expect(page.locator("#place-note")).to_contain_text("Faces are not looked for here")
        expect(page.locator("#facts")).to_contain_text("first run")
        expect(page.locator("#people")).to_be_hidden()
        expect(page.locator("#boxes")).to_be_hidden()
        expect(page.locator("#seen")).to_be_visible()  # the square that the network sees
        page.locator("text=On the server").click()
        expect(people).to_have_count(3)
        page.click("#camera")
        expect(page.locator("#rate")).to_contain_text("frames/s")
        expect(page.locator("#boxes .face").first).to_be_visible()
        page.click("#camera")
        assert watch.said == []
