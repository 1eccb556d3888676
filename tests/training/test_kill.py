"""kill -9 at every kind of moment, signals within a step: what goes on afterwards ends with the very same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdedge.data.faces import encode_png
from kdedge.training.checkpoint import load_weights, read_about
from tests.training.conftest import PREPROCESS, pictures, write_teacher
from tests.training.killed import SERVER, STEPS, Moment, Place, same

pytestmark = pytest.mark.slow

EVALUATED = (8, 15, 23, 30)
"""Steps of the four evaluations."""


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("material")
    write_teacher(home / "teacher.onnx", preprocess=PREPROCESS)
    for folder, count, seed in (("transfer", 60, 0), ("labelled/a", 8, 1), ("labelled/b", 8, 2)):
        (home / folder).mkdir(parents=True)
        for number, image in enumerate(pictures(count, seed=seed)):
            (home / folder / f"{number:03d}.png").write_bytes(encode_png(image))
    return home


@pytest.fixture(scope="module", autouse=True)
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        modules = [
            "kdedge.cli.app",
            "kdedge.training.distill",
            "kdedge.training.curves",
            "timm",
            "onnx",
            "tests.training.killed",
        ]
        SERVER.set_forkserver_preload(modules)
        yield


@pytest.fixture(scope="module")
def whole(material, tmp_path_factory) -> Place:
    """A run that nobody interrupted."""
    place = Place(tmp_path_factory.mktemp("whole"), material)
    assert place.status() == 0, place.said
    return place


@pytest.fixture
def place(material, tmp_path) -> Place:
    return Place(tmp_path, material)


def test_the_uninterrupted_run_saw_all_that_is_tried_here(whole):
    assert [record["step"] for record in whole.run.history() if "r2" in record] == list(EVALUATED)
    files = whole.files
    assert sum(name.endswith(".npy") for name in files) > 3
    assert files.count("last.safetensors") > STEPS
    assert {"config.toml", "targets.json", "imitation.json", "best.json", "card.json", "images.json"} <= set(files)


NAMED = [
    ("config.toml", 1, "before"),
    ("config.toml", 1, "after"),
    ("targets.safetensors", 1, "after"),
    ("last.safetensors", 1, "after"),
    ("last.safetensors", 14, "after"),
    ("imitation.safetensors", 2, "after"),
    ("best.safetensors", 1, "after"),
]


@pytest.mark.parametrize(("name", "which", "when"), NAMED, ids=lambda value: str(value))
def test_killed_while_a_file_takes_its_name(whole, place, name, which, when):
    """The tensors of a checkpoint have their new name, the JSON beside them has not; and other moments of that kind."""
    call = [number for number, file in enumerate(whole.files, 1) if file == name][which - 1]
    assert place.status(Moment("pathlib.Path.replace", call, when)) == -signal.SIGKILL
    place.resume()
    same(whole.run, place.run)


@pytest.mark.parametrize(
    "moment",
    [
        Moment("kdedge.training.activation_shards.write_json", 4),
        Moment("kdedge.training.checkpoint.save_file", 12, "half"),
        Moment("kdedge.training.labelled.fit_head", 1),
    ],
    ids=lambda moment: f"{moment.function.rpartition('.')[2]}-{moment.call}-{moment.when}",
)
def test_killed_within(whole, place, moment):
    """A shard without its JSON, half a checkpoint, while the head is fitted."""
    assert place.status(moment) == -signal.SIGKILL
    home = place.home / "cache" / "activations"
    shards = {file: file.stat().st_mtime_ns for file in home.rglob("*.npy") if file.with_suffix(".json").exists()}
    assert shards
    place.resume()
    assert {file: file.stat().st_mtime_ns for file in shards} == shards  # what was whole is not computed again
    same(whole.run, place.run)


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_again_and_again(whole, place, seed):
    begun, ended = (file.stat().st_mtime for file in (whole.run.targets, whole.run.card))
    rng, length = random.Random(seed), 1.0 + ended - begun
    words = [*place.words(), "--resume"]
    for _ in range(2):
        process = place.begin(words=words)
        time.sleep(rng.uniform(0.1, 1.0) * length)
        process.kill()
        process.join()
    place.resume()
    same(whole.run, place.run)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_within_a_step_ends_the_step_and_keeps_it(whole, place, number, status):
    moment = Moment("kdedge.training.engine.Engine.backward", 13, signals=(number,))
    assert place.status(moment, save_every=1e9) == status
    assert place.said.splitlines()[-1] == "interrupted" or number == signal.SIGTERM
    assert "Traceback" not in place.said
    assert read_about(place.run.last)["step"] == 13
    assert load_weights(place.run.last)
    place.resume()
    assert "resumed at step 13" in place.said
    same(whole.run, place.run)


def test_a_second_ctrl_c_does_not_wait(whole, place):
    moment = Moment("kdedge.training.engine.Engine.backward", 13, signals=(signal.SIGINT, signal.SIGINT))
    assert place.status(moment, save_every=1e9) == 130
    assert place.said.splitlines()[-1] == "interrupted"
    assert read_about(place.run.last)["step"] == EVALUATED[0]  # the last one before
    place.resume()
    same(whole.run, place.run)


@pytest.mark.parametrize(
    "moment",
    [
        Moment("kdedge.training.activations.embed_views", 3, signals=(signal.SIGINT,)),
        Moment("kdedge.training.pretrain.settle_batchnorm", 2, signals=(signal.SIGINT,)),
        Moment("kdedge.training.labelled.fit_head", 1, signals=(signal.SIGINT,)),
    ],
    ids=["teacher", "evaluation", "head"],
)
def test_ctrl_c_where_no_step_is_under_way_acts_at_once(whole, place, moment):
    assert place.status(moment) == 130
    assert place.said.splitlines()[-1] == "interrupted"
    place.resume()
    same(whole.run, place.run)


def test_the_command_itself_from_a_shell(material, place):
    """No fork, no patch: ``python -m kdedge`` is killed after its first checkpoint, and begun again."""
    whole = Place(place.home / "whole", material)
    whole.home.mkdir()
    assert whole.status(save_every=60.0, rows=1024) == 0  # one shard: float16 rounds by the range of a shard's rows
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KDEDGE_CACHE": str(place.home / "cache")}
    command = [sys.executable, "-m", "kdedge", *place.words(), "--resume"]

    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not place.run.last.with_suffix(".json").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    step = read_about(place.run.last)["step"]
    assert step in EVALUATED
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert f"resumed at step {step}" in done.stderr
    same(whole.run, place.run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--transfer": "nowhere"}, "nowhere"),
        ({"--loss": "mes"}, "unknown loss"),
        ({"--teacher": "onnx:nothing.onnx"}, "nothing.onnx"),
        ({"--student": "timm/resnet_of_mine"}, "resnet_of_mine"),
        ({"--batch": "1"}, "--batch"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_leaves_no_run_directory(place, change, words):
    given = place.words()
    for option, value in change.items():
        given = [*given, option, value]  # the last one counts
    assert place.status(words=given) == 2
    assert place.said.startswith("error: ")
    assert words in place.said
    assert place.said.count("\n") == 1
    assert not place.run.path.exists()


def test_resume_alone_has_nothing_to_begin_with(place):
    assert place.status(words=["distill", "--resume", "--out", str(place.run.path)]) == 2
    assert "is this a run directory" in place.said
    assert not place.run.path.exists()


def test_resume_with_a_finished_run_repeats_nothing(whole, place):
    shutil.copytree(whole.run.path, place.run.path)
    shutil.copytree(whole.home / "cache", place.home / "cache")
    before = json.loads(place.run.card.read_text())
    place.resume()
    assert f"resumed at step {STEPS}" in place.said
    after = json.loads(place.run.card.read_text())
    assert (after["scores"], after["provenance"]["steps"]) == (before["scores"], STEPS)
    assert place.run.best.read_bytes() == whole.run.best.read_bytes()
