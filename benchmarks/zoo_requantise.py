"""Quantise an entry of the zoo again, with 7-bit weights: what it does is then the same on every processor.

Eight-bit weights saturate where a processor adds their products up in 16 bits (x86 without VNNI). The weights are taken from
the entry itself, integer times scale, and the rectifiers that live in the ranges of its activations become Clips; the float
network goes through ``kdedge export --from``. VAL chooses the calibration and the
threshold for the unknown; TEST is only measured.
"""

import argparse
import json
import shlex
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import onnx
import tomli_w
from onnx import helper, numpy_helper
from onnx.version_converter import convert_version

from benchmarks.zoo import MODELS, list_entries, readme
from kdedge.card import ModelCard
from kdedge.data.folder import class_folders
from kdedge.errors import KdedgeError
from kdedge.export.graph import read_card, write_card
from kdedge.export.pictures import Pictures
from kdedge.export.recipe import ExportOptions
from kdedge.export.rejection import Known, with_prototypes
from kdedge.export.sources import ForeignOptions, export_foreign
from kdedge.export.targets import target_for
from kdedge.files import sha256_of, write_json, write_text
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.evaluate import evaluate
from kdedge.training.onnx_fold import fold_weights

_OPSET = 21  # from 19 on, DequantizeLinear on constants can be computed by onnx itself
_HIGHEST = 255


def dequantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float32 network in a QDQ file of unsigned activations: each weight a whole number of its scale.

    A result that is quantised from 0 on was rectified, perhaps by the range alone, and is clipped there.
    """
    plain = fold_weights(convert_version(model, _OPSET))
    graph = plain.graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    instead: dict[str, str] = {}
    for node in graph.node:
        node.input[:] = [instead.get(name, name) for name in node.input]
        if node.op_type == "DequantizeLinear":
            instead[node.output[0]] = node.input[0]
        elif node.op_type != "QuantizeLinear":
            nodes.append(node)
        elif known[node.input[2]].item() != 0 or node.input[0] == graph.input[0].name:
            instead[node.output[0]] = node.input[0]
        else:
            name = f"{node.input[0]}_clipped"
            bounds = {f"{name}_min": 0.0, f"{name}_max": _HIGHEST * known[node.input[1]].item()}
            for bound, value in bounds.items():
                graph.initializer.add().CopyFrom(helper.make_tensor(bound, onnx.TensorProto.FLOAT, (), [value]))
            nodes.append(helper.make_node("Clip", [node.input[0], *bounds], [name], name=name))
            instead[node.output[0]] = name
    del graph.node[:]
    graph.node.extend(nodes)
    given_out = {value.name for value in graph.output}
    graph.node.extend(
        helper.make_node("Identity", [source], [name]) for name, source in instead.items() if name in given_out
    )
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(plain, full_check=True)
    return plain


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("name", help="of the entry; its files are replaced")
    options.add_argument("--calibrate", type=Path, required=True, help="images it was trained on")
    options.add_argument(
        "--val",
        type=Path,
        help="class folders that it was not trained on; without them prototypes and threshold are "
        "those of the class folders of --calibrate, and the threshold is only applied if asked for",
    )
    options.add_argument("--test", type=Path, required=True, help="class folders whose accuracy goes into the card")
    options.add_argument("--notes", help="limits and use; instead of the card's own")
    options.add_argument("--models", type=Path, default=MODELS, help="the zoo's folder")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Replace the entry's files; return its folder."""
    given = parser().parse_args(arguments)
    folder: Path = given.models / given.name
    model = folder / "model.int8.onnx"
    old = ModelCard.from_json((folder / "card.json").read_text(encoding="utf-8"), str(folder))
    with tempfile.TemporaryDirectory() as scratch:
        source, made = Path(scratch) / "dequantised.onnx", Path(scratch) / "model.int8.onnx"
        onnx.save(dequantised(onnx.load(model)), source)
        pre = old.preprocess
        foreign = ForeignOptions(
            old.labels, pre.mean, pre.std, given.calibrate, pre.color, pre.resize, pre.size, given.val, name=old.name
        )
        export_foreign(source, foreign, ExportOptions(target=target_for("x86", vnni=False), out=made))
        new = read_card(made)
        if not given.val:
            new = _known(made, new, given.calibrate)
        measured = round(float(evaluate(Classifier(made, 2), class_folders(given.test, old.labels)).scores.accuracy), 6)
        card = new.with_(
            **{key: getattr(old, key) for key in ("student", "teacher", "parameters", "expects", "licence")},
            notes=given.notes or old.notes,
            scores={**old.scores, "int8_test_accuracy": measured},
            provenance={**old.provenance, **new.provenance, "requantised_from_sha256": sha256_of(model)},
        )
        write_card(made, card)
        model.write_bytes(made.read_bytes())
    write_json(folder / "card.json", card.to_dict())
    write_text(folder / "README.md", readme(card, model.stat().st_size))
    _note_command(folder / "recipe.toml", given)
    list_entries(given.models)
    return folder


def _known(file: Path, card: ModelCard, folder: Path) -> ModelCard:
    """Put prototypes of images it was trained on into the file; the card then says so."""
    seen = class_folders(folder, card.labels)
    known = Known(Pictures.from_paths(seen.paths, card.preprocess), np.asarray(seen.labels, np.int64))
    nothing = np.empty((0, card.preprocess.size, card.preprocess.size, 3), np.uint8)
    return with_prototypes(file, card, known, nothing, np.empty(0, np.int64))


def _note_command(path: Path, given: argparse.Namespace) -> None:
    """Put this command behind those of the recipe."""
    settings = tomllib.loads(path.read_text(encoding="utf-8"))
    words = ["python", "-m", "benchmarks.zoo_requantise", given.name]
    for option in ("calibrate", "val", "test") if given.val else ("calibrate", "test"):
        words += [f"--{option}", getattr(given, option).as_posix()]
    command = shlex.join(words)
    settings["commands"] = [*(each for each in settings["commands"] if each != command), command]
    write_text(path, tomli_w.dumps(settings))


if __name__ == "__main__":
    try:
        print(json.dumps(str(main())))
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
