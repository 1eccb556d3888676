import math

import pytest

from kdedge.training.verdict import verdict


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
