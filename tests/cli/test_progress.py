"""Plain progress lines, of output that goes to a file."""

import pytest

from kdedge.cli import progress
from kdedge.cli.progress import progress_bar


def test_a_resumed_run_does_not_count_what_was_done_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 1.0, 3.0, 14.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with progress_bar("Training") as advance:
        advance(51, 100)  # resumed at 50
        advance(53, 100)
        advance(64, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["  Training: 53 %, about 47 s left", "  Training: 64 %, about 36 s left"]


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Reading") as advance:
        for done in range(1, 4):
            advance(done, 3)
    assert capsys.readouterr().err == ""
