"""What is shown of long work: plain lines of output that goes to a file, a bar on a terminal."""

import io
import re
import sys
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdedge.cli import progress
from kdedge.cli.progress import _Pace, _share, _words, progress_bar
from kdedge.progress import no_bars


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, in the one place of the list."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work(clock: list[float], times: Iterable[float], *, first: int = 1, total: int = 100, note: str = "") -> None:
    with progress_bar("Training") as advance:
        for done, clock[0] in enumerate(times, first):
            advance(done, total, note)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Reading") as advance:
        for done in range(1, 4):
            advance(done, 3)
    assert lines(capsys) == []


def test_a_line_every_ten_seconds_and_one_at_the_end(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    work(clock, (0.5 * n for n in range(1, 101)))
    assert lines(capsys) == [
        "  Training: 5 %, about 48 s left",
        "  Training: 26 %, about 37 s left",
        "  Training: 47 %, about 26 s left",
        "  Training: 68 %, about 16 s left",
        "  Training: 89 %, about 6 s left",
        "  Training: 100 %, 50 s",
    ]


def test_the_end_is_told_once(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with progress_bar("Training") as advance:
        for clock[0], done in ((1.0, 10), (30.0, 100), (45.0, 100), (60.0, 100)):
            advance(done, 100)
    assert lines(capsys) == ["  Training: 100 %, 30 s"]


def test_work_that_stops_early_is_not_told_as_done(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    def times() -> Iterator[float]:
        yield 30.0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(clock, times(), first=10)
    assert lines(capsys) == ["  Training: 10 %, estimating"]


def test_more_work_than_was_thought(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with progress_bar("Reading") as advance:
        for clock[0], done, total in ((5.0, 10, 10), (6.0, 11, 20), (20.0, 20, 20)):
            advance(done, total)
    assert lines(capsys) == ["  Reading: 100 %, 5 s", "  Reading: 100 %, 20 s"]


def test_a_resumed_run_does_not_count_what_was_done_before(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    work(clock, (1.0 * n for n in range(1, 15)), first=901, total=1000)
    assert lines(capsys) == ["  Training: 90 %, estimating", "  Training: 91 %, about 86 s left"]


def test_a_slow_first_step_is_a_warm_up(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    work(clock, [60.0, *(60.0 + 0.1 * n for n in range(1, 120))], total=1000)
    assert lines(capsys) == ["  Training: 0 %, estimating", "  Training: 10 %, about 90 s left"]


def test_a_note_stands_behind_in_one_line(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    work(clock, [1.0, 2.0, 3.0], first=98, note="R2 0.31\nlearning [bold]")
    assert lines(capsys) == ["  Training: 100 %, 3 s, R2 0.31 learning [bold]"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "estimating"),
        (0.2, "about 0 s left"),
        (89.4, "about 89 s left"),
        (90.0, "about 2 min left"),
        (3600.0, "about 60 min left"),
        (5400.0, "about 1 h 30 min left"),
        (90061.0, "about 25 h 01 min left"),
    ],
)
def test_the_time_left_in_words(seconds: float | None, words: str) -> None:
    assert _words(seconds) == words


def pace_of(steps: Iterable[float], each: int = 1) -> Iterator[_Pace]:
    pace, now = _Pace(), 0.0
    for number, step in enumerate(steps, 1):
        now += step
        pace.update(number * each, now)
        yield pace


@given(st.floats(0.01, 100.0), st.integers(1, 50), st.integers(5, 60))
def test_a_steady_rate_is_found_exactly(step: float, each: int, count: int) -> None:
    *_, pace = pace_of([step] * count, each)
    wanted = 1000 * step / each
    found = pace.left(each * count + 1000)
    assert found is None if step * (count - 1) < 2 * (1 - 1e-9) else found is None or found == pytest.approx(wanted)
    if step * (count - 1) > 2.001:
        assert found is not None


def test_a_rate_that_changes_is_followed_and_a_pause_is_forgotten() -> None:
    *_, pace = pace_of([0.1] * 600 + [0.4] * 600)  # four times slower since half the work
    assert pace.left(1200 + 100) == pytest.approx(40.0, rel=0.05)
    *_, pace = pace_of([0.1] * 100 + [30.0] + [0.1] * 900)
    assert pace.left(1001 + 100) == pytest.approx(10.0, rel=0.1)


def test_bars_for_scripts_take_a_note_or_none() -> None:
    with no_bars("Training") as advance:
        advance(1, 2)
        advance(2, 2, "learning")


@given(st.integers(0, 150), st.text(st.characters(codec="ascii"), max_size=60), st.text(max_size=60))
def test_title_bar_and_note_share_a_line(room: int, title: str, note: str) -> None:
    name, bar, rest = _share(room, title, note)
    assert 8 <= bar <= 30
    assert len(name) + bar + len(rest) <= max(room, 8 + min(len(title), 16))
    if len(title) + len(note) + 8 <= room:
        assert (name, rest) == (title, note)
    assert name == title or (name[:-1] == title[: len(name) - 1] and name[-1] == "…")
    assert rest in (note, "") or (rest[:-1] == note[: len(rest) - 1] and rest[-1] == "…")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [80, 120])
def test_a_bar_on_a_terminal(clock: list[float], monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    work(clock, (1.0 * n for n in range(1, 51)), note="stalled since 4.0 [x]")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "  Training ━" in shown
    assert re.search(r" 50/100 .*about 50 s left stalled since 4.0 \[x\]", shown)
    assert max(map(len, re.split(r"[\r\n]", shown))) <= width
