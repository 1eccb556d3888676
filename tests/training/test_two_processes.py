"""Two processes over gloo learn what one learns from the same global batch."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from kdedge.data.faces import encode_png
from kdedge.data.shards import write_shard
from kdedge.training.run import Run
from tests.training.conftest import PREPROCESS, pictures, write_teacher

WITHOUT_NORM = """
import json, sys
import numpy as np, torch
from torch import nn
from kdedge.preprocess import Preprocess
from kdedge.training.activations import build_bank
from kdedge.training.augment import Augment
from kdedge.training import activations
from kdedge.training.engine import Engine
from kdedge.training.loop import LoopConfig, start
from kdedge.training.losses import loss_named
from kdedge.training.pretrain import Regressor, pretrain
from kdedge.training.targets import Standardize
from kdedge.training.teachers import build_teacher
from tests.training.conftest import SIZE, pictures

activations.SHARD_ROWS = 16
engine, teacher = Engine.choose(), build_teacher(f"onnx:{sys.argv[1]}")
bank = build_bank(pictures(90), [2] * 90, teacher, Augment(), 0, engine=engine)
torch.manual_seed(0)
trunk = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
loop = LoopConfig(steps=40, batch=16, lr=5e-3, evaluations=2)
state = start(engine.place(Regressor(trunk, 8, teacher.dim)), loop)
rows, held = np.arange(160), np.arange(160, 180)
records = []
pretrain(state, bank, rows, held, Standardize.fit(bank.activations[rows]), loss_named("mse+cosine"),
         Preprocess(SIZE, (127.5,) * 3, (64.0,) * 3), loop, engine, records.append, lambda state: None)
weights = {key: value.tolist() for key, value in state.model.state_dict().items()}
averaged = {key: value.tolist() for key, value in state.averaged.module.state_dict().items()}
with open(f"{sys.argv[2]}-{engine.rank}.json", "w") as file:
    json.dump({"world": engine.world, "records": records, "weights": weights, "averaged": averaged}, file)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_teacher(home / "teacher.onnx", preprocess=PREPROCESS)
    (home / "driver.py").write_text(WITHOUT_NORM, encoding="utf-8")
    for folder, count, seed in (("transfer", 60, 0), ("labelled/a", 6, 5), ("labelled/b", 6, 6)):
        (home / folder).mkdir(parents=True)
        for number, image in enumerate(pictures(count, 16, seed)):
            (home / folder / f"{number:03d}.png").write_bytes(encode_png(image))
    for shard in range(4):
        shown = pictures(20, 16, seed=50 + shard)
        members = [(f"{shard}-{n:03d}.png", encode_png(image)) for n, image in enumerate(shown)]
        write_shard(home / "shards" / f"{shard:05d}.tar", members)
    return home


def start(processes: int, home: Path, cache: str, *words: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    variables = {**os.environ, "KDEDGE_CACHE": str(home / cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    begin = launch if processes > 1 else [sys.executable]
    pipe = subprocess.PIPE
    return subprocess.Popen([*begin, *words], stdout=pipe, stderr=pipe, text=True, env=variables, cwd=home)


def run(*given: Any) -> subprocess.CompletedProcess[str]:
    """What :func:`start` starts, to its end."""
    with start(*given) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def distill(processes: int, home: Path, out: str, *more: str, transfer: str = "transfer", begin: Any = run) -> Any:
    words = [
        "-m",
        "kdedge",
        "distill",
        "--teacher",
        "onnx:teacher.onnx",
        "--student",
        "timm/test_resnet",
        "--size",
        "32",
    ]
    words += ["--student-weights", "random", "--steps", "20", "--train-views", "2", "--precision", "fp32"]
    words += ["--layout", "contiguous", "--transfer", transfer, "--train", "labelled", "--out", out]
    return begin(processes, home, f"cache-{out}", *words, "--batch", "16", *more)


def losses(records) -> np.ndarray:
    return np.asarray([record["loss"] for record in records if "loss" in record])


@pytest.mark.slow
def test_the_same_curve_and_the_same_weights_as_one_process(home):
    found = {}
    for processes in (1, 2):
        done = run(processes, home, f"cache{processes}", "driver.py", "teacher.onnx", f"w{processes}")
        assert done.returncode == 0, done.stderr
        found[processes] = [json.loads((home / f"w{processes}-{rank}.json").read_text()) for rank in range(processes)]
    (one,), (first, second) = found[1], found[2]
    assert (one["world"], first["world"], second["world"]) == (1, 2, 2)
    assert second["records"] == []  # the main process alone logs and evaluates
    np.testing.assert_allclose(losses(first["records"]), losses(one["records"]), rtol=1e-4)
    assert losses(one["records"])[-1] < 0.9 * losses(one["records"])[0]  # a curve, not a line
    for part in ("weights", "averaged"):
        for key, value in one[part].items():
            np.testing.assert_allclose(first[part][key], value, rtol=2e-3, atol=2e-4)
            assert first[part][key] == second[part][key]
    caches = [sorted((home / name / "activations").rglob("*.npy")) for name in ("cache1", "cache2")]
    assert len(caches[0]) == len(caches[1]) == 12  # 180 views, 16 a shard
    assert [path.read_bytes() for path in caches[0]] == [path.read_bytes() for path in caches[1]]


@pytest.mark.slow
def test_the_command_on_two_processes(home):
    done = distill(2, home, "two", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "two"  # one answer
    assert "2 processes" in done.stderr
    written = Run(home / "two")
    assert written.card.is_file()
    steps = [record["step"] for record in written.history() if "loss" in record]
    assert steps == [10, 20]
    alone = distill(1, home, "one")
    assert alone.returncode == 0, alone.stderr
    both = losses(written.history()), losses(Run(home / "one").history())
    np.testing.assert_allclose(*both, rtol=0.35)  # BatchNorm normalises each half of a batch by itself
    shapes = [{key: value.shape for key, value in load_file(Run(home / name).best).items()} for name in ("one", "two")]
    assert shapes[0] == shapes[1]
    refused = distill(2, home, "three", "--batch", "5")
    assert "error: --batch 5 cannot be shared by 2 processes" in refused.stderr
    assert refused.returncode != 0
    assert not (home / "three").exists()


@pytest.mark.slow
def test_shards_on_two_processes(home):
    done = distill(2, home, "sharded", transfer="shards")
    assert done.returncode == 0, done.stderr
    assert "80 images in 4 shards" in done.stderr
    files = list((home / "cache-sharded" / "activations").rglob("*.images.json"))
    assert len(files) == 4
    assert all(torch.isfinite(value).all() for value in load_file(Run(home / "sharded").best).values())


@pytest.mark.slow
def test_one_of_two_processes_is_killed(home):
    """The other one ends too; begun again, both go on where the last checkpoint is."""
    whole, killed = Run(home / "whole"), Run(home / "killed")
    assert distill(2, home, "whole").returncode == 0
    last = killed.last.with_suffix(".json")
    with distill(2, home, "killed", begin=start) as launched:
        while not last.exists():
            assert launched.poll() is None, launched.communicate()
            time.sleep(0.002)
        ranks = {child.environ().get("RANK"): child for child in psutil.Process(launched.pid).children()}
        ranks["1"].send_signal(signal.SIGKILL)
        launched.communicate(timeout=90)
    assert launched.returncode != 0
    assert not ranks["0"].is_running()
    assert not killed.card.exists()
    step = json.loads(last.read_text())["step"]
    resumed = distill(2, home, "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed at step {step}" in resumed.stderr
    for name in ("last", "best"):
        assert getattr(whole, name).read_bytes() == getattr(killed, name).read_bytes(), name
