"""Pickles that hold arrays are read; pickles that hold anything else do nothing."""

import builtins
import os
import pickle
import sys

import numpy as np
import pytest

from kdedge.errors import ModelError
from kdedge.training.unpickle import read_array_pickle

ARRAYS = {"conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bn1.count": np.array([7], np.int64)}


def write(path, value, protocol=2):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_arrays(tmp_path, protocol):
    found = read_array_pickle(write(tmp_path / "a.pkl", ARRAYS, protocol))
    assert list(found) == list(ARRAYS)
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_file_of_python_2(tmp_path):
    """Names and pixels as byte strings of protocol 2, as Python 2 wrote them."""
    body = np.array([1.5, -2.0], np.float32)
    raw = "".join(f"\\x{byte:02x}" for byte in body.tobytes())
    text = (
        "(dp0\nS'conv1.bias'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\n"
        "tp6\nRp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\n"
        f"tp14\nbI00\nS'{raw}'\np15\ntp16\nbs."
    )
    (tmp_path / "a.pkl").write_bytes(text.encode("latin1"))
    np.testing.assert_array_equal(read_array_pickle(tmp_path / "a.pkl")["conv1.bias"], body)


class Runs:
    """Leaves a file behind when it is unpickled without care."""

    def __init__(self, call, *given):
        self.call, self.given = call, given

    def __reduce__(self):
        return self.call, self.given


@pytest.mark.parametrize("way", ["system", "eval", "open", "in an array", "in a dictionary"])
def test_a_pickle_that_would_run_something(tmp_path, way):
    trace = tmp_path / "trace"
    evil = {
        "system": Runs(os.system, f"{sys.executable} -c \"open(r'{trace}','w')\""),
        "eval": Runs(builtins.eval, f"open(r'{trace}', 'w').close()"),
        "open": Runs(builtins.open, str(trace), "w"),
        "in an array": {"w": np.array([Runs(builtins.open, str(trace), "w")], dtype=object)},
        "in a dictionary": {**ARRAYS, "z": Runs(builtins.open, str(trace), "w")},
    }[way]
    path = write(tmp_path / "evil.pkl", evil)
    with pytest.raises(ModelError, match="arrays are admitted and nothing else"):
        read_array_pickle(path)
    assert not trace.exists()
    opened = pickle.loads(path.read_bytes())  # without care it does run: the test can fail
    del opened
    assert trace.exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([np.zeros(2)], "found list"),
        ({}, "dictionary of arrays"),
        ({"a": 3}, "'a' is int"),
        ({"a": np.array(["x"])}, "'a' is an array of <U1"),
        ({"a": np.array([None])}, "'a' is an array of object"),
        ({3: np.zeros(2)}, "3 is an array"),
    ],
)
def test_other_contents(tmp_path, value, words):
    with pytest.raises(ModelError, match=words):
        read_array_pickle(write(tmp_path / "a.pkl", value))


def test_no_pickle_at_all(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"hello")
    with pytest.raises(ModelError, match="not a pickle that can be read"):
        read_array_pickle(tmp_path / "a.pkl")
    with pytest.raises(ModelError, match="cannot be read"):
        read_array_pickle(tmp_path / "absent.pkl")
