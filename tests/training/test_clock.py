"""The clock of a training by a time that the test sets, and signals that the test sends to itself."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from kdedge.training import clock as clock_module
from kdedge.training.clock import Clock, Interrupt


class Time:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch) -> Time:
    told = Time()
    monkeypatch.setattr(clock_module, "time", told)
    return told


def test_waiting_is_a_share_of_the_training(time):
    clock = Clock(0.0)
    for _ in range(4):
        with clock.waiting():
            time.now += 0.25
        time.now += 0.75
        clock.stepped(32)
    assert clock.waited == pytest.approx(1.0)
    assert clock.data_wait() == pytest.approx(0.25)
    assert clock.images_per_s() == pytest.approx(32.0)
    assert clock.elapsed == pytest.approx(4.0)


def test_a_pause_is_elapsed_time_and_no_training(time):
    clock = Clock(0.0)
    with clock.waiting():
        time.now += 1.0
    time.now += 1.0
    clock.stepped(10)
    with clock.paused():
        time.now += 50.0
    assert clock.elapsed == pytest.approx(52.0)
    assert clock.images_per_s() == pytest.approx(5.0)
    assert clock.data_wait() == pytest.approx(0.5)
    time.now += 2.0
    clock.stepped(10)
    assert clock.elapsed == pytest.approx(54.0)
    assert clock.images_per_s() == pytest.approx(5.0)


def test_earlier_parts_count_as_elapsed_and_not_for_the_speed(time):
    clock = Clock(100.0)
    assert clock.elapsed == 100.0
    time.now += 2.0
    clock.stepped(8)
    assert clock.elapsed == pytest.approx(102.0)
    assert clock.images_per_s() == pytest.approx(4.0)
    with clock.paused():
        time.now += 3.0
    assert clock.elapsed == pytest.approx(105.0)


def test_processes_go_by_the_time_of_the_main_one(time):
    clock = Clock(0.0, lambda mine: mine + 7.0)
    time.now += 1.0
    clock.stepped(1)
    assert clock.elapsed == pytest.approx(8.0)


def test_nothing_has_happened_yet(time):
    clock = Clock(0.0)
    assert (clock.images_per_s(), clock.data_wait(), clock.elapsed) == (0.0, 0.0, 0.0)


def test_the_share_of_waiting_never_passes_one(time):
    """Data that was waited for in a pause is no time of the training."""
    clock = Clock(0.0)
    time.now += 1.0
    with clock.paused(), clock.waiting():
        time.now += 9.0
    assert clock.data_wait() == 1.0


def test_when_a_checkpoint_is_due(time):
    clock = Clock(500.0)
    due = []
    for _ in range(7):
        time.now += 30.0
        due.append(clock.save_is_due(60.0))
    assert due == [False, False, True, False, False, True, False]
    time.now += 0.001
    assert clock.save_is_due(0.0)


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Whatever happens inside, Ctrl-C and SIGTERM do afterwards what they did before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["INT", "TERM"]
)
class TestSignals:
    def test_it_is_held_until_the_step_is_over(self, number, raised):
        done = []

        def train() -> None:
            with Interrupt().held() as interrupt:
                interrupt.act()  # nothing came yet
                send(number)
                done.append(interrupt.signal)
                interrupt.act()
                done.append("more")

        with handlers_kept(), pytest.raises(raised) as caught:
            train()
        assert done == [number]
        if raised is SystemExit:
            assert caught.value.code == 143

    def test_a_second_one_does_not_wait(self, number, raised):
        done = []

        def train() -> None:
            with Interrupt().held():
                send(number)
                done.append("first")
                send(number)
                done.append("second")

        with handlers_kept(), pytest.raises(raised):
            train()
        assert done == ["first"]

    def test_it_acts_at_once_where_it_is_let_through(self, number, raised):
        done = []

        def train() -> None:
            with Interrupt().held() as interrupt, interrupt.let_through():
                done.append("begun")
                send(number)
                done.append("ended")

        with handlers_kept(), pytest.raises(raised):
            train()
        assert done == ["begun"]

    def test_what_came_before_acts_on_the_way_in(self, number, raised):
        done = []

        def train() -> None:
            with Interrupt().held() as interrupt:
                send(number)
                done.append("step")
                with interrupt.let_through():
                    done.append("evaluation")

        with handlers_kept(), pytest.raises(raised):
            train()
        assert done == ["step"]

    def test_it_is_held_again_after_that(self, number, raised):
        with handlers_kept(), Interrupt().held() as interrupt:
            with interrupt.let_through():
                pass
            send(number)
            assert interrupt.signal == number

    def test_it_is_held_again_after_an_error_in_there(self, number, raised):
        def evaluate(interrupt: Interrupt) -> None:
            with interrupt.let_through():
                raise ValueError("evaluation")

        with handlers_kept(), Interrupt().held() as interrupt:
            with pytest.raises(ValueError, match="evaluation"):
                evaluate(interrupt)
            send(number)
            assert interrupt.signal == number


def test_ctrl_c_after_sigterm_is_ctrl_c():
    with handlers_kept(), pytest.raises(KeyboardInterrupt), Interrupt().held():
        send(signal.SIGTERM, signal.SIGINT)


def test_handlers_come_back_after_an_error():
    def train() -> None:
        with Interrupt().held():
            raise ValueError("step")

    with handlers_kept(), pytest.raises(ValueError, match="step"):
        train()


def test_afterwards_ctrl_c_is_python_s_own():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background ignores it
    try:
        _ctrl_c_after_a_training()
    finally:
        signal.signal(signal.SIGINT, before)


def _ctrl_c_after_a_training() -> None:
    with handlers_kept():
        with Interrupt().held():
            pass
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_another_thread_trains_without_holding_anything():
    """Python lets only the main thread set handlers; the signal goes where it went before."""
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def train() -> None:
        with Interrupt().held() as interrupt, interrupt.let_through():
            interrupt.act()
            seen.append((signal.getsignal(signal.SIGINT), interrupt.signal))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [(before, None)]
