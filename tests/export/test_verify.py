import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.special import softmax
from scipy.stats import entropy

from kdedge.errors import ExportError
from kdedge.export.outputs import Outputs
from kdedge.export.verify import TOLERANCE, TOLERANCE_FLOAT16, Parity, check_float16, check_fp32, compare, parity


def _pair(seed: int, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference = random.normal(0, 4, (37, 11))
    return reference.astype(np.float32), (reference + random.normal(0, noise, reference.shape)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_parity_is_what_scipy_says(seed: int) -> None:
    p, q = _pair(seed)
    found = parity(p, q)
    p64, q64 = p.astype(np.float64), q.astype(np.float64)
    assert found.images == 37
    assert found.kl == pytest.approx(
        np.mean([entropy(softmax(a), softmax(b)) for a, b in zip(p64, q64, strict=True)]), rel=1e-9
    )
    assert found.cosine == pytest.approx(np.mean([1 - cosine(a, b) for a, b in zip(p64, q64, strict=True)]), rel=1e-9)
    assert found.top1_agreement == pytest.approx(np.mean([a.argmax() == b.argmax() for a, b in zip(p, q, strict=True)]))
    assert found.max_abs_error == max(abs(a - b) for a, b in zip(p64.flat, q64.flat, strict=True))
    assert found.relative_error == pytest.approx(found.max_abs_error / max(abs(a) for a in p64.flat))


def test_a_network_agrees_with_itself() -> None:
    p, _ = _pair(0)
    found = parity(p, p)
    assert (found.max_abs_error, found.top1_agreement, found.kl) == (0.0, 1.0, 0.0)
    assert found.cosine == pytest.approx(1.0, abs=1e-15)


def test_extreme_logits_overflow_nothing() -> None:
    found = parity(np.array([[1e4, -1e4]]), np.array([[9e3, -1e4]]))
    assert found.kl == pytest.approx(0.0)
    assert np.isfinite([value for value in found.to_dict().values() if value is not None]).all()


def test_zero_rows_have_a_cosine() -> None:
    assert parity(np.zeros((1, 3)), np.zeros((1, 3))).cosine == 1.0
    assert parity(np.zeros((1, 3)), np.ones((1, 3))).cosine == 0.0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ExportError, match=r"\(2, 3\).*\(2, 4\)"):
        parity(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ExportError, match="cannot be compared"):
        parity(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(ExportError, match="exported network's logits are not all finite"):
        parity(np.zeros((1, 2)), np.array([[np.nan, 0.0]]))


def test_tolerance() -> None:
    good = Parity(1, 0.0, TOLERANCE, 1.0, 1.0, 0.0)
    check_fp32(good)
    with pytest.raises(ExportError, match="nothing was written"):
        check_fp32(Parity(1, 0.0, TOLERANCE * 1.01, 1.0, 1.0, 0.0))


def test_embeddings_are_compared_where_both_have_them() -> None:
    p, q = _pair(3)
    a, b = _pair(4)
    found = compare(Outputs(p, a), Outputs(q, b))
    assert found.embedding_cosine == pytest.approx(
        np.mean([1 - cosine(x, y) for x, y in zip(a, b, strict=True)]), rel=1e-6
    )
    assert compare(Outputs(p, a), Outputs(q)).embedding_cosine is None
    assert compare(Outputs(p), Outputs(q)) == parity(p, q)
    with pytest.raises(ExportError, match="embeddings of shape"):
        compare(Outputs(p, a), Outputs(q, b[:, :5]))


def test_tolerance_of_float16() -> None:
    check_float16(Parity(1, 0.0, TOLERANCE_FLOAT16, 1.0, 1.0, 0.0))
    with pytest.raises(ExportError, match="the float16 file differs from fp32"):
        check_float16(Parity(1, 0.0, TOLERANCE_FLOAT16 * 1.01, 1.0, 1.0, 0.0))
