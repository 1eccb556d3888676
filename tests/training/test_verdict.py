"""Verdicts on constructed trainings, one for each cause, and on anything at all."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdedge.training.verdict import Verdict, judge, short, verdict


def words(r2, cosine=0.6, knn=0.3):
    return verdict({"r2": r2, "cosine": cosine, "knn": knn})


@pytest.mark.parametrize("r2", [0.0, -0.01, -4062.0, -math.inf, math.nan])
def test_not_learning(r2):
    assert words(r2).startswith("The student is NOT learning (held-out R2 ")


def test_the_cause_is_told():
    assert "outputs explode" in words(-27202.0, cosine=0.51)
    assert "nothing of the teacher was picked up" in words(-0.5, cosine=0.02)
    assert "nothing of the teacher" in words(math.nan, cosine=math.nan)


@pytest.mark.parametrize(
    ("r2", "wanted"),
    [
        (0.001, "barely learned"),
        (0.099, "barely learned"),
        (0.1, "learned part"),
        (0.399, "learned part"),
        (0.4, "learned well"),
        (1.0, "learned well"),
    ],
)
def test_learning(r2, wanted):
    assert wanted in words(r2)
    assert "NOT" not in words(r2)


def test_it_is_one_line_with_its_figures():
    sentence = words(0.256, 0.634, 0.417)
    assert "held-out R2 0.26, cosine 0.63, k-NN agreement 0.42" in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


def course(r2, loss=None, *, cosine=None, knn=None, lr=1e-3, until=1.0, steps=4000):
    """Evenly spaced evaluations; ``until`` is how much of the training they cover."""
    count = len(r2)
    return [
        {
            "epoch": float(number + 1),
            "step": steps * until * (number + 1) / count,
            "share": until * (number + 1) / count,
            "r2": r2[number],
            "cosine": (cosine or [max(value, 0.0) ** 0.5 for value in r2])[number],
            "knn": (knn or [0.3] * count)[number],
            "lr": lr if np.isscalar(lr) else lr[number],
        }
        | ({"loss": loss[number]} if loss else {})
        for number in range(count)
    ]


RISING_THEN_FLAT = [0.1, 0.2, 0.3, 0.3, 0.302, 0.299, 0.301]


@pytest.mark.parametrize(
    ("r2", "loss", "lr", "cause"),
    [
        ([0.1, 0.2, 0.3, 0.27, 0.24, 0.2, 0.15], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], 1e-3, "overfitting"),
        (RISING_THEN_FLAT, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], 1e-3, "do not follow; add transfer images"),
        (RISING_THEN_FLAT, [0.9, 0.8, 0.7, 0.71, 0.7, 0.7, 0.69], 1e-3, "too small for this teacher"),
        (RISING_THEN_FLAT, [0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7], 3e-6, "raise the learning rate (3e-06)"),
        (RISING_THEN_FLAT, [0.9, 0.8, 0.7, 0.9, 0.6, 1.1, 0.7], 1e-1, "lower the learning rate (0.1)"),
        (RISING_THEN_FLAT, [0.9, 0.8, 0.7, 0.75, 0.8, 0.85, 0.9], 1e-2, "loss rises"),
        (RISING_THEN_FLAT, None, 1e-3, "larger student"),
    ],
)
def test_a_standstill_and_its_cause(r2, loss, lr, cause):
    found = judge(course(r2, loss, lr=lr, until=0.7))
    assert (found.state, found.since, short(found)) == ("stalled", 3.0, "stalled since 3.0")
    assert found.words.startswith("Stalled since epoch 3 (held-out R2 ")
    assert cause in found.words
    over = judge(course(r2, loss, lr=lr))
    assert (over.state, over.since) == ("learned", 3.0)
    assert over.words.startswith("The student has learned part")
    assert cause in over.words


def test_small_gains_add_up():
    creeping = [0.2 + 0.004 * step for step in range(12)]
    assert judge(course(creeping, until=0.6, cosine=[0.5] * 12)).state == "learning"
    flat = [0.2 + 0.004 * (step % 2) for step in range(12)]
    assert judge(course(flat, until=0.6, cosine=[0.5] * 12)).state == "stalled"


def test_one_score_that_rises_is_enough():
    flat = [0.3] * 6
    assert judge(course(flat, until=0.6)).state == "stalled"
    assert judge(course(flat, until=0.6, knn=[0.1, 0.15, 0.2, 0.25, 0.3, 0.35])).state == "learning"
    probed = [record | {"probe": 0.5 + 0.05 * n} for n, record in enumerate(course(flat, until=0.6))]
    assert judge(probed).state == "learning"


def test_a_standstill_at_the_end_of_the_schedule_is_as_planned():
    r2 = [0.1, 0.2, 0.3, 0.4, 0.45, 0.45, 0.45, 0.45]
    fading = [1e-3, 9e-4, 7e-4, 4e-4, 9e-5, 5e-5, 1e-5, 1e-6]
    assert judge(course(r2, lr=fading)).since is None
    assert judge(course(r2, lr=fading, until=0.9)).state == "learning"
    assert judge(course(r2, lr=1e-3, until=0.9)).state == "stalled"


def test_a_standstill_ends():
    flat = course([0.3] * 6 + [0.35], until=0.7)
    assert judge(flat[:-1]).state == "stalled"
    assert judge(flat).state == "learning"


def test_near_the_ceiling_nothing_is_wrong():
    found = judge(course([0.9, 0.95, 0.95, 0.95, 0.95], until=0.5))
    assert (found.state, found.since) == ("learned", 2.0)
    assert "NOT" not in found.words


LOW = [-0.1, -0.12, -0.1, -0.11, -0.1, -0.12]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"r2": [-900.0, -700.0, -800.0, -900.0, -950.0, -950.0], "cosine": [0.5] * 6}, "BatchNorm"),
        ({"r2": [-9.0] * 6, "cosine": [0.1] * 6}, "outputs explode: a learning rate"),
        ({"loss": [1.0, 0.8, 0.6, 0.5, 0.4, 0.3]}, "held-out images of another kind"),
        ({"loss": [1.0, 1.01, 0.99, 1.0, 1.0, 1.0]}, "does not fall (1 to 1)"),
        ({"loss": [1.0, 1.0, 1.5, 2.0, 4.0, 8.0]}, "diverges (loss 1, then 8): lower the learning rate (0.001)"),
        ({"loss": [1.0, 0.9, 0.8, 0.8, math.nan, math.nan]}, "diverges"),
        ({"r2": [-0.1, -0.1, -0.1, -0.1, -0.1, math.nan]}, "diverges"),
        (
            {"r2": [0.3, 0.2, 0.1, -0.1, -0.2, -0.3], "cosine": [0.6] * 6, "loss": [0.9, 0.7, 0.5, 0.3, 0.2, 0.1]},
            "R2 was 0.30 at epoch 1",
        ),
        ({"r2": [-0.5] * 6, "cosine": [0.4] * 6, "loss": [0.9, 0.7, 0.5, 0.3, 0.2, 0.1]}, "held-out images of another"),
        ({"lr": 2.0}, "far too high (2)"),
        ({"lr": 1e-8, "loss": [1.0] * 6}, "far too low (1e-08)"),
        ({"r2": [0.0] * 6, "loss": [0.5, 0.1, 0.01, 1e-3, 1e-5, 1e-8]}, "constant"),
        ({"r2": [-9.0, -7.0, -5.0, -3.0, -1.8, -0.7], "loss": [3.0, 2.5, 2.0, 1.8, 1.6, 1.5]}, "too short"),
        ({"steps": 60, "loss": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]}, "only 60 steps"),
        ({}, "nothing of the teacher"),
        ({"r2": [0.05] * 6, "cosine": [0.01] * 6}, "nothing of the teacher"),
    ],
)
def test_why_nothing_was_learned(changes, cause):
    found = judge(course(**{"r2": LOW, "cosine": [0.01] * 6} | changes))
    assert found.state == "not learning"
    assert found.words.startswith("The student is NOT learning (held-out R2 ")
    assert cause in found.words


def test_a_slow_start_is_not_condemned():
    assert judge([]).state == "starting"
    assert judge(course([-0.4], until=0.25)).state == "starting"
    assert judge(course([-0.4, -0.4], until=0.1)).state == "starting"
    assert judge(course([-0.4, -0.2], until=0.1)).state == "learning"
    assert judge(course([-0.4, -0.4], until=0.5)).state == "not learning"
    assert judge(course([-0.4, -0.39], until=0.5, cosine=[0.01, 0.02])).state == "not learning"
    assert judge(course([-0.4, -0.4], until=0.5, cosine=[0.01, 0.04])).state == "learning"


def test_the_network_that_is_kept_decides_at_the_end():
    history = course([0.3, 0.5, 0.05], cosine=[0.5, 0.7, 0.2])
    assert judge(history).state == "barely learned"
    kept = judge(history, kept=history[1])
    assert kept.state == "learned"
    assert "R2 0.50" in kept.words
    assert judge(course([0.3, 0.5], until=0.5), kept={"r2": -1.0, "cosine": 0.0}).state == "learning"  # not over


def test_still_rising_at_the_end():
    assert "longer training should help" in judge(course([0.05, 0.1, 0.2, 0.3])).words
    assert "longer" not in judge(course([0.5, 0.6, 0.7, 0.8])).words


def test_the_probe_is_told_where_it_is_known():
    rows = course([0.1, 0.3], until=0.5)
    assert "few-shot probe 0.71" in judge([row | {"probe": 0.714} for row in rows]).words
    assert "probe" not in judge([row | {"probe": math.nan} for row in rows]).words


def test_step_records_give_loss_and_rate():
    steps = [{"step": 10.0 * n, "epoch": n / 2, "loss": 2.0 * 0.9**n, "lr": 1e-3} for n in range(20)]
    ends = [{"step": 10.0 * n, "epoch": n / 2, "r2": -0.2, "cosine": 0.02, "knn": 0.1} for n in (9, 19)]
    found = judge(steps[:10] + ends[:1] + steps[10:] + ends[1:])
    last = np.mean([record["loss"] for record in steps[-5:]])
    assert f"training loss falls (2 to {last:.3g})" in found.words


numbers = st.floats(allow_nan=True, allow_infinity=True)
keys = ("epoch", "step", "r2", "cosine", "knn", "probe", "loss", "lr", "share")
anything = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(keys, numbers)), max_size=8)


@given(anything)
def test_it_never_raises(history):
    found = judge(history)
    assert isinstance(found, Verdict)
    assert "\n" not in found.words
    assert found.words.endswith(".")
    assert 0 < len(short(found)) <= 24
    if found.state == "stalled":
        assert found.since is not None


GRADES = {"starting": 0, "not learning": 0, "barely learned": 1, "stalled": 1, "learning": 1, "learned": 2}
scores = st.floats(-3.0, 1.0)
course_of = st.lists(st.tuples(scores, st.floats(-1.0, 1.0), st.floats(0.01, 3.0)), min_size=1, max_size=8)


@given(course_of, st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_better_last_scores_never_make_it_worse(rows, more_r2, more_cosine):
    r2, cosine, loss = (list(column) for column in zip(*rows, strict=True))
    before = judge(course(r2, loss, cosine=cosine))
    r2[-1], cosine[-1] = min(1.0, r2[-1] + more_r2), min(1.0, cosine[-1] + more_cosine)
    after = judge(course(r2, loss, cosine=cosine))
    assert GRADES[after.state] >= GRADES[before.state]


@given(course_of, st.floats(0.3, 0.99))
def test_a_student_that_fails_is_never_praised(rows, until):
    r2, cosine, loss = (list(column) for column in zip(*rows, strict=True))
    for share in (until, 1.0):
        found = judge(course(r2, loss, cosine=cosine, until=share))
        failed = r2[-1] <= 0.0 or cosine[-1] <= 0.05
        assert not (failed and found.state in ("learned", "barely learned", "stalled"))
        assert not (not failed and found.state in ("not learning", "starting"))
