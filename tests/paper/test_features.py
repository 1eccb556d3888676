"""Do activations tell facial parts apart?"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kdedge.data.faces import Face, encode_png
from kdedge.errors import DataError, KdedgeError, ModelError, RunError
from kdedge.paper.features import (
    NETWORKS,
    check_out,
    compare_features,
    map_points,
    perplexity_of,
    silhouette,
    verdict_of,
)
from kdedge.paper.untrained import Pair, build_pair
from kdedge.preprocess import Preprocess
from kdedge.progress import no_bars
from kdedge.training.teachers import TeacherInput

SIZE = 16
AS_IS = TeacherInput(SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LANDMARKS = np.array([(20, 20), (44, 20), (32, 34), (22, 48), (42, 48)], np.float32)


class Finder:
    """The same face in every picture that is not black."""

    min_width = 40.0

    def find(self, image: NDArray[np.uint8]) -> list[Face]:
        return [Face((10.0, 10.0, 44.0, 50.0), LANDMARKS, 0.9)] if image.any() else []


def write_portraits(folder: Path, count: int) -> Path:
    """Three bands: red and green tell weakly which part it is, blue is of any strength."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = np.zeros((64, 64, 3), np.uint8)
        for rows, (red, green) in ((slice(27), (90, 60)), (slice(27, 41), (60, 90)), (slice(41, 64), (60, 60))):
            image[rows] = (red + rng.integers(-4, 5), green + rng.integers(-4, 5), rng.integers(0, 256))
        (folder / f"{number}.png").write_bytes(encode_png(image))
    return folder


def write_network(path: Path) -> Path:
    """Knows that blue means nothing: its activations are red and green."""
    weight = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]], np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def never(*_: object) -> Any:
    raise AssertionError("slow work before the check")


def of(embed: Callable[[NDArray[np.uint8]], NDArray[Any]]) -> Pair:
    """A pair whose trained network is the mean colour."""
    mean = SimpleNamespace(trained=lambda images, _: images.mean((1, 2)).astype(np.float32))
    return Pair("test/net", "none", Preprocess(SIZE), mean.trained, lambda images, _: embed(images))


def test_a_network_that_knows_the_parts_separates_them(tmp_path: Path) -> None:
    faces = write_portraits(tmp_path / "faces", 9)
    (faces / "dark.png").write_bytes(encode_png(np.zeros((64, 64, 3), np.uint8)))
    net, out = write_network(tmp_path / "net.onnx"), tmp_path / "out"

    def run(where: Path, **options: Any) -> dict[str, Any]:
        return compare_features(
            faces, lambda: build_pair(f"onnx:{net}", given=AS_IS), Finder, where, bars=no_bars, **options
        )

    result = run(out)
    for what in ("silhouette_activations", "silhouette_tsne"):
        assert result["trained"][what] > result["untrained"][what] + 0.2
    assert result["trained"]["silhouette_activations"] > 0.6
    assert result["labels"] == ["eye", "nose", "mouth"] * 9
    assert sorted(result["faces"]) == [f"{number}.png" for number in range(9)]
    assert (result["dimension"], np.shape(result["trained"]["points"])) == (4, (27, 2))

    kept = json.loads((out / "features.json").read_text())
    assert kept == result
    again = kept["trained"]["points"], np.arange(27) % 3
    assert silhouette(np.array(again[0]), again[1]) == pytest.approx(kept["trained"]["silhouette_tsne"], abs=1e-3)
    text = (out / "features.md").read_text()
    assert result["verdict"] in text
    assert f"| trained | {result['trained']['silhouette_activations']:.3f} |" in text
    assert "1 images without a usable face" in text
    assert sorted(path.name for path in out.iterdir()) == ["crops.png", "features.json", "features.md", "features.png"]

    with pytest.raises(RunError, match="not empty"):
        run(out)
    assert run(out, overwrite=True) == result
    fewer = run(tmp_path / "other", most=4, seed=1)
    assert len(fewer["faces"]) == 4
    assert fewer["untrained"] != result["untrained"]


def test_the_sheet_shows_the_crops(tmp_path: Path) -> None:
    """Each row of the contact sheet has its part's colours."""
    from kdedge.paper.feature_plot import GAP, MARGIN, TILE, draw_crops

    colors = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250]], np.uint8)
    crops = np.broadcast_to(colors[None, :, None, None], (45, 3, 8, 8, 3))
    draw_crops(crops, ("eye", "nose", "mouth"), tmp_path / "crops.png")
    sheet = cv2.imread(str(tmp_path / "crops.png"))[..., ::-1]
    assert abs(sheet.shape[1] - (40 * (TILE + GAP) + MARGIN)) <= 2  # at most 40 faces
    for row, color in enumerate(colors):
        for column in (0, 39):
            at = sheet[
                GAP + row * (TILE + GAP) + TILE // 2,
                MARGIN + column * (TILE + GAP) + np.array([5, TILE // 2, TILE - 5]),
            ]
            assert np.abs(at.astype(int) - color).max() <= 3


def test_silhouette_is_rousseeuws() -> None:
    """Its definition: (b - a) / max(a, b), with the mean distances a to the own cluster and b to the nearest other one."""
    rng = np.random.default_rng(0)
    labels = np.arange(21) % 3
    values = rng.normal(size=(21, 5)) + 1.5 * labels[:, None]
    distance = np.sqrt(((values[:, None] - values[None]) ** 2).sum(-1))
    each = []
    for i in range(21):
        own = (labels == labels[i]) & (np.arange(21) != i)
        a = distance[i, own].mean()
        b = min(distance[i, labels == other].mean() for other in range(3) if other != labels[i])
        each.append((b - a) / max(a, b))
    assert silhouette(values, labels) == pytest.approx(np.mean(each), rel=1e-9)
    assert silhouette(np.eye(5)[labels] + 1e-6 * values, labels) > 0.99


def test_map_keeps_clusters_apart() -> None:
    labels = np.arange(36) % 3
    values = np.random.default_rng(0).normal(size=(36, 20)) + 9 * np.eye(20)[labels]
    points = map_points(values, perplexity_of(36), seed=0)
    assert points.shape == (36, 2)
    assert silhouette(points, labels) > 0.7
    assert np.array_equal(points, map_points(values, perplexity_of(36), seed=0))
    assert [perplexity_of(n) for n in (12, 60, 900)] == [2.0, 10.0, 30.0]


def test_scale_and_shift_of_activations_do_not_matter(tmp_path: Path) -> None:
    """An untrained MobileNetV3 has activations of 1e-9: t-SNE alone would find other points then."""
    faces = write_portraits(tmp_path / "faces", 5)

    def spots(images: NDArray[np.uint8]) -> NDArray[Any]:
        return images[:, 4, 4].astype(np.float64)

    results = [
        compare_features(faces, lambda change=change: of(change), Finder, tmp_path / name, bars=no_bars)
        for name, change in (("a", spots), ("b", lambda x: spots(x) * 1e-10 + 1e-9))
    ]
    for what in ("silhouette_activations", "silhouette_tsne"):
        assert results[0]["untrained"][what] == pytest.approx(results[1]["untrained"][what], abs=0.02)


@pytest.mark.parametrize(
    ("embed", "said"),
    [
        (lambda x: np.full((len(x), 4), 3.0), "the untrained network of test/net: .* the same for all crops.*--seed"),
        (lambda x: np.full((len(x), 4), 3.0) + 1e-9 * np.arange(4), "the same for all crops"),
        (lambda x: np.zeros((len(x), 4)), "the same for all crops"),
        (lambda x: np.full((len(x), 4), np.nan), "not finite"),
        (lambda x: x.mean((1, 2))[:, :1], "single numbers"),
    ],
)
def test_activations_that_say_nothing(tmp_path: Path, embed: Any, said: str) -> None:
    faces = write_portraits(tmp_path / "faces", 4)
    with pytest.raises(ModelError, match=said):
        compare_features(faces, lambda: of(embed), Finder, tmp_path / "out", bars=no_bars)
    assert not (tmp_path / "out").exists()


def test_mistakes_are_told_before_slow_work(tmp_path: Path) -> None:
    faces = write_portraits(tmp_path / "faces", 4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    (tmp_path / "empty").mkdir()
    few = write_portraits(tmp_path / "few", 3)

    def refused(error: type[KdedgeError], said: str, where: Path = faces, out: str = "out", **options: Any) -> None:
        with pytest.raises(error, match=said):
            compare_features(where, never, never, tmp_path / out, bars=no_bars, **options)

    refused(DataError, "no such folder", tmp_path / "absent")
    refused(DataError, "no images", tmp_path / "empty")
    refused(RunError, "holds 3 image", few)
    refused(RunError, "--most is 3", most=3)
    refused(RunError, "not empty", out="full")
    refused(RunError, "no features.json", out="full", overwrite=True)
    refused(RunError, "is a file", out="few/0.png")
    check_out(tmp_path / "empty")


def test_too_few_faces(tmp_path: Path) -> None:
    faces = write_portraits(tmp_path / "faces", 3)
    (faces / "dark.png").write_bytes(encode_png(np.zeros((64, 64, 3), np.uint8)))
    with pytest.raises(DataError, match="3 faces at least 40 px wide were found in 4 images; at least 4"):
        compare_features(faces, lambda: of(lambda x: x.mean((1, 2))), Finder, tmp_path / "out", bars=no_bars)


def test_verdict_follows_from_the_numbers() -> None:
    def result(*values: float) -> dict[str, Any]:
        return {
            kind: {"silhouette_activations": value, "silhouette_tsne": value / 2}
            for kind, value in zip(NETWORKS, values, strict=True)
        }

    assert verdict_of(result(0.1, 0.4)) == (
        "Trained activations cluster more by facial part than untrained ones: silhouette 0.400 against 0.100 (of the t-SNE "
        "points 0.200 against 0.050)."
    )
    assert "cluster no more by facial part" in verdict_of(result(0.4, 0.1))
