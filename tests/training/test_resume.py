"""kill -9, Ctrl-C, SIGTERM and a full disk: a resumed distillation ends with the very same weights."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdedge.data.faces import encode_png
from kdedge.errors import RunError
from kdedge.training import activation_shards, activations, checkpoint, distill_setup
from kdedge.training.config import DistillConfig, read_config
from kdedge.training.distill import distill
from kdedge.training.loop import LoopConfig
from kdedge.training.run import Run, load_run
from tests.training.conftest import PREPROCESS, Stop, pictures, stop_at, write_teacher

STEPS = 24

DRIVER = """
import sys, time
from kdedge.training import activations, distill_setup
from kdedge.training.loop import LoopConfig

activations.SHARD_ROWS = 16
distill_setup.LoopConfig = lambda *given, **named: LoopConfig(*given, **named, save_every=0.0)
embed = activations.embed_views
activations.embed_views = lambda *given, **named: (time.sleep(0.1), embed(*given, **named))[1]  # wide enough to hit
from kdedge.cli import main
main()
"""


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    """A teacher, 60 unlabelled and 2 x 6 labelled images."""
    home = tmp_path_factory.mktemp("material")
    write_teacher(home / "teacher.onnx", preprocess=PREPROCESS)
    for folder, count, seed in (("transfer", 60, 0), ("labelled/a", 6, 5), ("labelled/b", 6, 6)):
        (home / folder).mkdir(parents=True)
        for number, image in enumerate(pictures(count, 16, seed)):
            (home / folder / f"{number:03d}.png").write_bytes(encode_png(image))
    return home


def config_of(material: Path, out: Path) -> DistillConfig:
    return DistillConfig(
        teacher=f"onnx:{material / 'teacher.onnx'}",
        student="timm/test_resnet",
        out=str(out),
        transfer=str(material / "transfer"),
        train=str(material / "labelled"),
        train_views=2,
        size=32,
        steps=STEPS,
        batch=8,
        evaluations=3,
        student_weights="random",
        precision="fp32",
        layout="contiguous",
    )


def quiet(_):
    """Nobody listens."""


def same(one: Run, other: Run) -> None:
    for name in ("last", "best", "imitation"):
        a, b = (load_file(getattr(run, name)) for run in (one, other))
        assert set(a) == set(b)
        assert [key for key in a if not torch.equal(a[key], b[key])] == [], name
    steps = [[record["step"] for record in run.history()] for run in (one, other)]
    assert steps[0] == steps[1]


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every step, shards of 16 views."""
    monkeypatch.setattr(
        distill_setup, "LoopConfig", lambda *given, **named: LoopConfig(*given, **named, save_every=0.0)
    )
    monkeypatch.setattr(activations, "SHARD_ROWS", 16)


@pytest.mark.parametrize("step", [1, 7, 8, 9, 16, STEPS])
def test_stopped_at_any_step(material, tmp_path, often, step):
    whole = distill(config_of(material, tmp_path / "whole"), say=quiet)
    part = config_of(material, tmp_path / "part")
    with pytest.raises(Stop):
        distill(part, say=quiet, bars=stop_at(step, STEPS))
    with pytest.raises(RunError, match="not finished; go on with the command that began it"):
        load_run(part.out)
    torch.manual_seed(12345)
    resumed = distill(part, resume=True, say=quiet)
    same(whole.run, resumed.run)
    assert resumed.scores == whole.scores
    assert read_config(resumed.run.config).steps == STEPS


def test_stopped_between_the_best_weights_and_the_checkpoint(material, tmp_path, often, monkeypatch):
    """The better weights are on disk, the checkpoint of that step is not."""
    whole = distill(config_of(material, tmp_path / "whole"), say=quiet)
    part = config_of(material, tmp_path / "part")
    from kdedge.training import distill_journal

    save = distill_journal.save_state

    def stopped(path, state, about):
        if state.step == 16:
            raise Stop
        save(path, state, about)

    with monkeypatch.context() as patched:
        patched.setattr(distill_journal, "save_state", stopped)
        with pytest.raises(Stop):
            distill(part, say=quiet)
    resumed = distill(part, resume=True, say=quiet)
    same(whole.run, resumed.run)
    assert resumed.scores == whole.scores


def full(*given, **named):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["activations", "checkpoint"])
def test_a_full_disk_is_one_sentence_and_loses_nothing(material, tmp_path, often, monkeypatch, where):
    whole = distill(config_of(material, tmp_path / "whole"), say=quiet)
    part = replace(config_of(material, tmp_path / "part"), seed=1)  # other activations, too
    whole_other = distill(replace(part, out=str(tmp_path / "other")), say=quiet)
    assert whole_other.scores != whole.scores
    monkeypatch.setenv("KDEDGE_CACHE", str(tmp_path / "new-cache"))
    written = []
    with monkeypatch.context() as patched:
        if where == "activations":
            write = activation_shards.np.lib.format.write_array

            def some(*given, **named):
                written.append(1)
                return full() if len(written) > 3 else write(*given, **named)

            patched.setattr(activation_shards.np.lib.format, "write_array", some)
        else:
            save = checkpoint.save_file

            def few(tensors, path):
                written.append(1)
                return full() if len(written) > 12 else save(tensors, path)

            patched.setattr(checkpoint, "save_file", few)
        with pytest.raises(RunError, match=r"the disk is full.*kdedge distill --resume --out") as caught:
            distill(part, say=quiet)
        assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
    resumed = distill(part, resume=True, say=quiet)
    same(whole_other.run, resumed.run)


# processes


def command(material: Path, out: Path, *more: str) -> list[str]:
    words = ["--teacher", f"onnx:{material / 'teacher.onnx'}", "--student", "timm/test_resnet", "--size", "32"]
    words += [
        "--student-weights",
        "random",
        "--steps",
        "120",
        "--batch",
        "8",
        "--train-views",
        "2",
        "--precision",
        "fp32",
    ]
    words += ["--layout", "contiguous", "--transfer", str(material / "transfer"), "--train", str(material / "labelled")]
    return [sys.executable, "-c", DRIVER, "distill", *words, "--out", str(out), *more]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "KDEDGE_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(material, tmp_path_factory) -> Run:
    home = tmp_path_factory.mktemp("whole")
    subprocess.run(command(material, home / "run"), check=True, capture_output=True, env=environment(home / "cache"))
    return Run(home / "run")


def until(there, process, seconds=90.0) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.005)


def reached(out: Path, step: int) -> bool:
    log = out / "metrics.jsonl"
    return log.is_file() and f'"step": {step},' in log.read_text(encoding="utf-8")


MOMENTS = {
    "the teacher looks": lambda out, cache: len(list(cache.rglob("0*.json"))) >= 3,
    "it trains": lambda out, cache: reached(out, 40),
    "it has trained": lambda out, cache: reached(out, 120),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9(material, whole, tmp_path, moment):
    out, cache = tmp_path / "run", tmp_path / "cache"
    process = subprocess.Popen(command(material, out), stderr=subprocess.PIPE, text=True, env=environment(cache))
    until(lambda: MOMENTS[moment](out, cache), process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    if moment == "the teacher looks":
        before = {path: path.stat().st_mtime_ns for path in cache.rglob("0*.json")}
    again = [sys.executable, "-c", DRIVER, "distill", "--resume", "--out", str(out)]
    done = subprocess.run(again, capture_output=True, text=True, env=environment(cache))
    assert done.returncode == 0, done.stderr
    if moment == "the teacher looks":  # what was whole was not computed again
        assert {path: path.stat().st_mtime_ns for path in before} == before
    same(whole, Run(out))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_of_the_last_step(material, whole, tmp_path, number, status):
    out, cache = tmp_path / "run", tmp_path / "cache"
    words = command(material, out, "--resume")  # begins, for there is nothing to resume
    words[2] = words[2].replace("save_every=0.0", "save_every=1e9")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment(cache))
    until(lambda: reached(out, 30), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert err.rstrip().endswith("interrupted")
    records = Run(out).history()
    assert checkpoint.read_about(Run(out).last)["step"] >= max(record["step"] for record in records if "loss" in record)
    done = subprocess.run(command(material, out, "--resume"), capture_output=True, text=True, env=environment(cache))
    assert done.returncode == 0, done.stderr
    assert "resumed at step" in done.stderr
    same(whole, Run(out))
