import json

import pytest

from kdedge.card import ModelCard
from kdedge.errors import CardError, RunError
from kdedge.preprocess import Preprocess
from kdedge.training.checkpoint import save_weights
from kdedge.training.config import DistillConfig, write_config
from kdedge.training.run import Run, load_run
from kdedge.training.students import build_student

STUDENT = "timm/test_resnet"


@pytest.fixture
def finished(tmp_path):
    """A run directory as distill leaves it."""
    run = Run.create(tmp_path / "runs" / "a")
    write_config(run.config, DistillConfig("onnx:t.onnx", STUDENT, str(run.path), transfer="t"))
    run.write_card(ModelCard("a", ("ant", "bee"), Preprocess(32), student=STUDENT))
    save_weights(run.best, build_student(STUDENT, 2, size=32), {})
    run.write_images([tmp_path / "x.png"], [tmp_path / "y.png", tmp_path / "z.png"])
    return run


def everything(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestCreate:
    def test_new_and_empty_folders(self, tmp_path):
        assert Run.create(tmp_path / "a" / "b").path.is_dir()
        Run.create(tmp_path / "a" / "b")  # still empty

    def test_one_that_is_there_is_refused(self, finished):
        before = everything(finished.path)
        with pytest.raises(
            RunError, match=r"exists and is not empty; go on with --resume, start anew with --overwrite"
        ):
            Run.create(finished.path)
        assert everything(finished.path) == before

    def test_overwrite_empties_a_run(self, finished):
        Run.create(finished.path, overwrite=True)
        assert list(finished.path.iterdir()) == []

    def test_overwrite_spares_what_is_no_run(self, tmp_path):
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter.txt").write_text("all of it")
        with pytest.raises(RunError, match="not a run directory"):
            Run.create(tmp_path / "thesis", overwrite=True)
        assert (tmp_path / "thesis" / "chapter.txt").read_text() == "all of it"

    def test_resume_needs_something(self, tmp_path):
        for folder in (tmp_path / "absent", tmp_path):
            with pytest.raises(RunError, match="nothing to resume"):
                Run.create(folder, resume=True)
        assert not (tmp_path / "absent").exists()

    def test_resume_keeps_everything(self, finished):
        before = everything(finished.path)
        Run.create(finished.path, resume=True)
        assert everything(finished.path) == before

    def test_a_file_of_that_name(self, tmp_path):
        (tmp_path / "a").write_text("")
        with pytest.raises(RunError, match="is a file; --out wants a directory"):
            Run.create(tmp_path / "a")

    def test_a_check_touches_nothing(self, tmp_path, finished):
        Run.check(tmp_path / "new")
        assert not (tmp_path / "new").exists()
        before = everything(finished.path)
        Run.check(finished.path, overwrite=True)
        assert everything(finished.path) == before


class TestLog:
    def test_records_and_what_a_resumed_run_forgets(self, tmp_path):
        run = Run.create(tmp_path / "a")
        assert run.history() == []
        for step in (1, 2, 3, 4):
            run.log({"step": step, "loss": 1 / step})
        assert [record["loss"] for record in run.history()] == pytest.approx([1, 0.5, 1 / 3, 0.25], abs=1e-6)
        run.forget_after(2)
        assert [record["step"] for record in run.history()] == [1, 2]


class TestLoad:
    def test_a_finished_run(self, finished):
        loaded = load_run(finished.path)
        assert loaded.card.labels == ("ant", "bee")
        assert [path.name for path in loaded.calibration] == ["x.png"]
        assert [path.name for path in loaded.heldout] == ["y.png", "z.png"]
        assert loaded.student.head.out_features == 2
        assert not loaded.student.training

    @pytest.mark.parametrize(
        ("gone", "said"),
        [
            ("config.toml", "not a run directory"),
            ("card.json", "not finished; go on with the command that began it"),
            ("checkpoints/best.safetensors", "not finished"),
            ("checkpoints/best.json", "no such checkpoint"),
            ("images.json", "not finished"),
        ],
    )
    def test_something_is_gone(self, finished, gone, said):
        (finished.path / gone).unlink()
        with pytest.raises(RunError, match=said):
            load_run(finished.path)

    def test_no_such_run(self, tmp_path):
        with pytest.raises(RunError, match="no such run directory"):
            load_run(tmp_path / "absent")

    def test_a_garbled_card(self, finished):
        finished.card.write_text("{")
        with pytest.raises(CardError, match=r"card\.json"):
            load_run(finished.path)

    def test_no_labels(self, finished):
        finished.write_card(ModelCard("a", (), Preprocess(32), student=STUDENT))
        with pytest.raises(RunError, match="has no head; distil with --data"):
            load_run(finished.path)

    def test_weights_of_another_network(self, finished):
        save_weights(finished.best, build_student(STUDENT, 5, size=32), {})
        with pytest.raises(RunError, match=r"best\.safetensors"):
            load_run(finished.path)

    def test_garbled_images(self, finished):
        finished.images.write_text(json.dumps({"trained": []}))
        with pytest.raises(RunError, match=r"images\.json"):
            load_run(finished.path)
