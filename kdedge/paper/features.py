"""The feature-crop experiment (the paper's S3): do activations tell eyes, noses and mouths apart, before and after training?"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from kdedge.data.faces import FaceFinder
from kdedge.data.folder import find_images
from kdedge.data.parts import PARTS, SIDE, FaceParts, draw_faces
from kdedge.errors import ModelError, RunError
from kdedge.files import write_json, write_text
from kdedge.paper.feature_plot import draw_crops, draw_points
from kdedge.paper.untrained import Pair
from kdedge.progress import Bars
from kdedge.training.engine import set_threads

__all__ = ["LEAST", "check_out", "compare_features", "map_points", "perplexity_of", "silhouette", "verdict_of"]

NETWORKS = ("untrained", "trained")
LEAST = 4
"""Faces: with fewer crops neither t-SNE nor the silhouette says anything."""


def check_out(out: Path, overwrite: bool = False) -> None:
    """Refuse a folder that holds anything; with ``overwrite``, only one that holds anything but an earlier experiment.

    Raises:
        RunError: ``out`` is a file, or is refused.
    """
    if out.is_file():
        raise RunError(f"{out}: is a file; --out wants a directory.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise RunError(f"{out}: exists and is not empty; name another --out, or start anew with --overwrite.")
    if not (out / "features.json").is_file():
        raise RunError(f"{out}: holds no features.json of an earlier experiment, so --overwrite leaves it alone.")


def compare_features(
    faces: Path,
    pair: Callable[[], Pair],
    finder: Callable[[], FaceFinder],
    out: Path,
    *,
    most: int = 20,
    seed: int = 0,
    overwrite: bool = False,
    bars: Bars,
) -> dict[str, Any]:
    """Cut parts out of faces, show them to both networks and write ``features.json``, ``.md``, ``.png`` and ``crops.png``.

    Each network's activations of all crops are mapped to two dimensions by t-SNE. The silhouette (Rousseeuw, 1987; Euclidean
    distances; -1 to 1, 0 for parts that are mixed) takes the facial part for the cluster: once on the activations
    themselves, once on the t-SNE points.

    Args:
        faces: folder of photographs or face crops; the biggest face of an image counts.
        pair: makes the networks, once the folders are known to be good.
        finder: makes the detector, likewise.
        most: how many faces are drawn, at least 4.
        seed: of the draw and of t-SNE.

    Returns:
        What ``features.json`` holds.

    Raises:
        DataError: no images, or fewer than four faces.
        ModelError: activations that are not finite, or the same for all crops.
        RunError: see :func:`check_out`; or ``most`` is too small.
    """
    if most < LEAST:
        raise RunError(f"--most is {most}; at least {LEAST} faces are needed.")
    check_out(out, overwrite)
    images = find_images(faces)
    if len(images) < LEAST:
        raise RunError(f"{faces}: holds {len(images)} image(s); at least {LEAST} with a face each are needed.")
    set_threads()
    networks = pair()
    detector = finder()
    with bars("Finding faces") as advance:
        found = draw_faces(
            images, detector, networks.preprocess.size, most=most, least=LEAST, seed=seed, progress=advance
        )
    count = len(found.paths)
    labels = np.tile(np.arange(len(PARTS)), count)
    crops = found.crops.reshape(-1, *found.crops.shape[2:])
    perplexity = perplexity_of(len(crops))
    result: dict[str, Any] = {
        "teacher": networks.name,
        "weights": networks.weights,
        "input": networks.preprocess.to_dict(),
        "seed": seed,
        "faces": [path.relative_to(faces).as_posix() for path in found.paths],
        "parts": list(PARTS),
        "side": SIDE,
        "perplexity": perplexity,
    }
    for kind, embed in zip(NETWORKS, (networks.untrained, networks.trained), strict=True):
        with bars(f"Activations, {kind}") as advance:
            activations = _checked(embed(crops, advance), kind, networks.name)
        result["dimension"] = activations.shape[1]
        points = map_points(activations, perplexity, seed)
        result[kind] = {
            "silhouette_activations": silhouette(activations, labels),
            "silhouette_tsne": silhouette(points, labels),
            "points": [[round(float(x), 4) for x in point] for point in points],
        }
    result["labels"] = [PARTS[label] for label in labels]
    result["verdict"] = verdict_of(result)
    draw_crops(found.crops, PARTS, out / "crops.png")
    draw_points(result, out / "features.png")
    write_text(out / "features.md", _markdown(result, found))
    write_json(out / "features.json", result)
    return result


def _checked(activations: NDArray[np.float32], kind: str, name: str) -> NDArray[np.float64]:
    """(N, D) centred, and scaled as a whole so that float32 inside t-SNE is enough; distances keep their ratios."""
    values = np.asarray(activations, np.float64)
    who = f"the {kind} network of {name}"
    if not np.isfinite(values).all():
        raise ModelError(f"{who}: its activations are not finite numbers; is its preprocessing right?")
    centred = values - values.mean(0)
    spread = float(np.sqrt((centred**2).mean()))
    if spread <= 1e-6 * float(np.abs(values).max()):
        advice = "try another --seed or another network" if kind == "untrained" else "is its preprocessing right?"
        raise ModelError(f"{who}: its activations are the same for all crops, so they cannot be told apart; {advice}.")
    if values.shape[1] < 2:
        raise ModelError(f"{who}: its activations are single numbers; at least two dimensions are needed.")
    scaled: NDArray[np.float64] = centred / spread
    return scaled


def perplexity_of(count: int) -> float:
    """Half a cluster of three: a sixth of the crops, 2 to 30 (van der Maaten and Hinton, JMLR 2008, advise 5 to 50)."""
    return float(np.clip(count / 6, 2.0, 30.0))


def map_points(activations: NDArray[np.floating], perplexity: float, seed: int) -> NDArray[np.float64]:
    """t-SNE from (N, D) to (N, 2), begun at the principal components."""
    mapped = TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    return np.asarray(mapped.fit_transform(np.asarray(activations, np.float64)), np.float64)


def silhouette(values: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Mean silhouette of (N, D) values by label, Euclidean, -1 to 1."""
    return float(silhouette_score(values, labels))


def verdict_of(result: Mapping[str, Any]) -> str:
    """One sentence: do trained activations cluster more by part, by the silhouette of the activations themselves?"""
    before, after = (float(result[kind]["silhouette_activations"]) for kind in NETWORKS)
    points = " against ".join(f"{result[kind]['silhouette_tsne']:.3f}" for kind in reversed(NETWORKS))
    found = "more" if after > before else "no more"
    return (
        f"Trained activations cluster {found} by facial part than untrained ones: silhouette {after:.3f} against {before:.3f} "
        f"(of the t-SNE points {points})."
    )


def _markdown(result: Mapping[str, Any], found: FaceParts) -> str:
    count = len(found.paths)
    size = result["input"]["size"]
    about = (
        f"Network {result['teacher']}, trained weights: {result['weights']}; untrained: random ones of seed {result['seed']}. "
        f"{count} faces, {count * len(PARTS)} crops (`crops.png`: the image's left eye, nose, mouth) of {result['side']:g} eye "
        f"distances, shown at {size} px; {result['dimension']} activations before the last layer. t-SNE with perplexity "
        f"{result['perplexity']:g}, seed {result['seed']}. Silhouette by part, -1 to 1; 0 means mixed."
    )
    lines = [
        "# Activations of facial parts",
        "",
        str(result["verdict"]),
        "",
        "| network | silhouette of the activations | silhouette of the t-SNE points |",
        "| --- | ---: | ---: |",
    ]
    for kind in NETWORKS:
        row = result[kind]
        lines.append(f"| {kind} | {row['silhouette_activations']:.3f} | {row['silhouette_tsne']:.3f} |")
    lines += [
        "",
        about,
        "",
        "![Activations in two dimensions](features.png)",
    ]
    if found.faceless or found.bad:
        lines += ["", f"Passed over: {found.faceless} images without a usable face, {found.bad} unreadable ones."]
    return "\n".join([*lines, ""])
