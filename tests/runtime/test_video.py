"""Videos and cameras: which frames, when, and what becomes of those that nobody was ready for."""

import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from kdedge.errors import DataError, RunError
from kdedge.runtime import video as module
from kdedge.runtime.annotate import FilmWriter
from kdedge.runtime.sources import Film
from kdedge.runtime.video import Frame, Video

RATE = 10.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames of 64x48, three seconds; frame n is grey of 8 * n."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with FilmWriter(path, RATE) as writer:
        for number in range(30):
            writer.add(np.full((48, 64, 3), 8 * number, np.uint8), number / RATE)
    return path


def grey(pixels: np.ndarray) -> float:
    return float(pixels.mean())


def frames(clip: Path, **options) -> list:
    with Video(Film(str(clip), str(clip)), grey, **options) as video:
        return list(video)


def test_every_frame_in_order(clip: Path) -> None:
    with Video(Film("clip", str(clip)), grey) as video:
        assert (video.rate, video.total, video.size, video.live) == (RATE, 30, (64, 48), False)
        found = list(video)
        assert (video.read, video.dropped) == (30, 0)
    assert [frame.number for frame in found] == list(range(30))
    assert [frame.taken for frame in found] == pytest.approx([8 * number for number in range(30)], abs=4)
    assert [frame.seconds for frame in found] == pytest.approx([number / RATE for number in range(30)], abs=0.02)


def test_some_frames(clip: Path) -> None:
    assert [frame.number for frame in frames(clip, every=7)] == [0, 7, 14, 21, 28]
    assert [frame.number for frame in frames(clip, rate=2.0)] == [0, 5, 10, 15, 20, 25]
    assert [frame.number for frame in frames(clip, most=3)] == [0, 1, 2]
    with Video(Film("clip", str(clip)), grey, every=7) as video:
        assert video.total == 5


def test_a_video_that_is_cut_off(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        def __init__(self, *given: object) -> None:
            self.real = cv2.VideoCapture(str(clip))
            self.left = 12

        def grab(self) -> bool:
            self.left -= 1
            return self.left >= 0 and self.real.grab()

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    short = Short()
    monkeypatch.setattr(module, "_open", lambda film: short)
    with Video(Film("clip.mp4", "clip.mp4"), grey) as video, pytest.raises(DataError, match="after 12 of 30"):
        list(video)
    assert video.read == 12


@pytest.mark.parametrize(
    ("film", "words"),
    [
        (Film("camera:97", 97, True), "camera cannot be opened"),
        (Film("absent.mp4", "absent.mp4"), "cannot be read"),
        (Film(__file__, __file__), "not a video"),
    ],
)
def test_what_cannot_be_opened(film: Film, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Video(film, grey)


class Camera:
    """Gives numbered frames as fast as they are grabbed; ends after ``frames``."""

    def __init__(self, frames: int, pause: float = 0.0) -> None:
        self.left, self.pause, self.number = frames, pause, -1
        self.released = False

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FPS: 30.0}.get(what, 0.0)

    def grab(self) -> bool:
        time.sleep(self.pause)
        self.left, self.number = self.left - 1, self.number + 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((4, 4), self.number, np.uint8)  # grey, as some cameras are

    def release(self) -> None:
        self.released = True


def test_the_newest_frame_of_a_camera_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(50, 0.001)
    monkeypatch.setattr(module, "_open", lambda film: camera)
    seen: list[int] = []

    def look(frames: Iterable[Frame[int]]) -> None:
        for frame in frames:
            seen.append(frame.taken)
            time.sleep(0.02)

    with Video(Film("camera:0", 0, True), lambda pixels: int(pixels[0, 0, 0])) as video:
        with pytest.raises(DataError, match="stopped after 50 frames"):
            look(video)
        assert video.dropped == 50 - len(seen) > 0
    assert seen == sorted(seen)
    assert seen[-1] == 49
    assert camera.released


def test_leaving_early_ends_the_thread(clip: Path) -> None:
    with Video(Film("clip", str(clip)), grey) as video:
        next(iter(video))
    assert not video._thread.is_alive()
    video.close()


def test_no_video_where_none_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="cannot be written"), FilmWriter(tmp_path / "file/a.mp4", 10) as writer:
        writer.add(np.zeros((48, 64, 3), np.uint8), 0.0)
    with FilmWriter(tmp_path / "none.mp4", 10):
        pass
    assert not (tmp_path / "none.mp4").exists(), "nothing is written without a frame"
