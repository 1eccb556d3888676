"""``kdedge card attach``: from a file that says nothing to one that classifies."""

import json
import shlex
from pathlib import Path

from kdedge.export.graph import read_card
from tests.conftest import COLORS, color_card, write_color_model
from tests.export.test_attach import strip
from tests.runtime.test_info import FULL


def answers(text: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in text.splitlines()]
    return [{key: value for key, value in answer.items() if key != "ms"} for answer in found]


def test_strip_refuse_attach_classify(run_kdedge, tmp_path: Path, color_images: Path) -> None:
    card = FULL.with_(precision="fp32")  # which the file is: of another export not all would hold
    whole = write_color_model(tmp_path / "whole.onnx", card)
    before = run_kdedge("classify", color_images, "-m", whole, "--json").stdout
    (tmp_path / "card.json").write_text(run_kdedge("info", whole, "--json").stdout, encoding="utf-8")
    file = strip(whole)
    refused = run_kdedge("classify", color_images, "-m", file)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.splitlines()) == 1
    way = refused.stderr.partition("give it one with '")[2].partition("'")[0]
    done = run_kdedge(*shlex.split(way)[1:], cwd=tmp_path)  # the very command it names
    assert done.returncode == 0, done.stderr
    assert read_card(file) == card
    assert answers(run_kdedge("classify", color_images, "-m", file, "--json").stdout) == answers(before)


def test_examples(run_kdedge, tmp_path: Path) -> None:
    for name in ("bare.onnx", "flowers.onnx"):
        strip(write_color_model(tmp_path / name))
    (tmp_path / "card.json").write_text(color_card().to_json(), encoding="utf-8")
    (tmp_path / "flowers.txt").write_text("daisy\nrose\ntulip\n")
    (tmp_path / "blumen.txt").write_text('["Gänseblümchen", "Rose", "Tulpe"]', encoding="utf-8")
    shown = run_kdedge("card", "attach", "--help").stdout.partition("Examples:")[2].partition("Arguments:")[0]
    words = [shlex.split(line)[1:] for line in shown.split("\n") if "kdedge" in line]
    assert len(words) == 3
    for example in words:
        done = run_kdedge(*example, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "logits in 'logits'" in done.stdout
    assert read_card(tmp_path / "bare.onnx").labels == tuple(COLORS)
    flowers, blumen = read_card(tmp_path / "flowers.onnx"), read_card(tmp_path / "blumen.onnx")
    assert (flowers.name, flowers.labels) == ("flowers", ("daisy", "rose", "tulip"))
    assert flowers.preprocess.std == (255, 255, 255)
    assert blumen == flowers.with_(name="blumen", labels=("Gänseblümchen", "Rose", "Tulpe"))
