"""Sessions: threads within the limits of the machine, and one clear sentence for what is wrong with a file."""

import os
from pathlib import Path

import onnx
import pytest

from kdedge.errors import ModelError
from kdedge.runtime import session
from kdedge.runtime.session import default_threads, open_session, usable_cores


def test_threads_are_set_explicitly(color_model: Path) -> None:
    options = open_session(color_model, 2).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level) == (2, 1, 3)
    assert open_session(color_model).get_session_options().intra_op_num_threads == default_threads()
    assert 1 <= default_threads() <= min(4, os.cpu_count() or 1)
    with pytest.raises(ModelError, match="threads is 0"):
        open_session(color_model, 0)


def test_quota_is_the_least_of_all_cgroups_above(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/pod/box\n")
    root = tmp_path / "v2"
    (root / "pod/box").mkdir(parents=True)
    assert session.cgroup_cores(root, own) == float("inf")
    (root / "pod/box/cpu.max").write_text("max 100000\n")
    assert session.cgroup_cores(root, own) == float("inf")
    (root / "pod/cpu.max").write_text("150000 100000\n")
    assert session.cgroup_cores(root, own) == 1.5


def test_quota_of_version_1(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("4:memory:/x\n2:cpu,cpuacct:/box\n")
    folder = tmp_path / "cpu/box"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert session.cgroup_cores(tmp_path, own) == float("inf")
    (folder / "cpu.cfs_quota_us").write_text("300000\n")
    assert session.cgroup_cores(tmp_path, own) == 3.0


def test_two_threads_of_a_core_are_one_core(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(siblings)
    assert session.physical_cores({0, 1, 2, 3}, tmp_path) == 2
    assert session.physical_cores({0, 2}, tmp_path) == 1
    assert session.physical_cores({0, 1, 2, 3}, tmp_path / "absent") == 4


def test_a_small_quota_still_leaves_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "cgroup_cores", lambda: 0.3)
    assert usable_cores() == 1


def test_missing_and_corrupt_files(tmp_path: Path, color_model: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        open_session(tmp_path / "absent.onnx")
    whole = color_model.read_bytes()
    for data in (b"", b"no model", whole[: len(whole) // 2]):
        file = tmp_path / "bad.onnx"
        file.write_bytes(data)
        with pytest.raises(ModelError, match=r"bad\.onnx: onnxruntime .* cannot load"):
            open_session(file)


@pytest.mark.parametrize("newer", ["ir_version", "opset"])
def test_a_file_from_the_future_asks_for_a_newer_runtime(tmp_path: Path, color_model: Path, newer: str) -> None:
    model = onnx.load(color_model)
    if newer == "opset":
        model.opset_import[0].version = 99
    else:
        model.ir_version = 99
    file = tmp_path / "new.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="update onnxruntime"):
        open_session(file)


def test_both_wheels_are_refused(monkeypatch: pytest.MonkeyPatch, color_model: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime-1.32.0.dist-info").mkdir()
    assert session._wheels(tmp_path) == ["onnxruntime"]
    (tmp_path / "onnxruntime_gpu-1.32.0.dist-info").mkdir()
    both = session._wheels(tmp_path)
    assert both == ["onnxruntime", "onnxruntime-gpu"]
    monkeypatch.setattr(session, "_wheels", lambda site: both)
    with pytest.raises(ModelError, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        open_session(color_model)


def test_the_wheel_that_is_installed_is_found() -> None:
    import onnxruntime

    assert session._wheels(Path(onnxruntime.__file__).parents[1])
