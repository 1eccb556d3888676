"""Faces in photographs: found, then turned and scaled so that eyes, nose and mouth always lie on the same pixels."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kdedge.data.folder import find_images
from kdedge.decode import Box
from kdedge.errors import DataError, ModelError
from kdedge.files import write_bytes
from kdedge.preprocess import Image, decode
from kdedge.progress import Progress

__all__ = ["TEMPLATE", "AlignedFolder", "Face", "FaceFinder", "align", "align_folder", "encode_png"]

TEMPLATE: NDArray[np.float64] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where eyes, nose tip and corners of the mouth lie in an aligned crop of 112 px: (5, 2) as x, y.

From Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019 (their alignment code).
"""
TEMPLATE_SIZE = 112

LONGEST = 1200
SHORTEST = 128


@dataclass(frozen=True)
class Face:
    """One face, in pixels of the image it was found in.

    Attributes:
        box: left, top, width, height; may reach over the image's edge.
        landmarks: (5, 2), x and y of the eye, eye, nose tip, corner, corner of the mouth, the image's left ones first.
        score: the detector's confidence, 0-1.
    """

    box: Box
    landmarks: NDArray[np.float32]
    score: float


class FaceFinder:
    """The YuNet detector (Wu et al., Machine Intelligence Research 2023) for images of any size; threads may share it.

    Images are searched at no more than 1200 px on the long side (and enlarged to 128 px when they are smaller).
    """

    def __init__(self, detector: bytes | str | Path, *, min_width: float = 40.0, score: float = 0.7) -> None:
        """
        Args:
            detector: YuNet as ONNX, or the path of such a file.
            min_width: narrower faces (pixels of the given image) are background and left out.
            score: least confidence, 0-1.

        Raises:
            ModelError: the file is missing, or is no detector that this OpenCV can run.
        """
        self._name = "the face detector" if isinstance(detector, bytes) else str(detector)
        if isinstance(detector, bytes):
            self._model = detector
        else:
            try:
                self._model = Path(detector).read_bytes()
            except OSError as error:
                raise ModelError(f"{detector}: the face detector cannot be read ({error.strerror}).") from error
        self.min_width = min_width
        self.score = score
        self._local = threading.local()
        self._create = threading.Lock()
        try:
            with _quiet_opencv():
                self.find(np.zeros((SHORTEST, SHORTEST, 3), np.uint8))  # OpenCV takes any network, until it is used
        except (cv2.error, ValueError, IndexError) as error:
            raise ModelError(f"{self._name}: another kind of network; a YuNet file was expected.") from error

    def find(self, image: Image) -> list[Face]:
        """Faces in an RGB image, in reading order: rows from top to bottom, in a row from left to right."""
        height, width = image.shape[:2]
        longest = max(height, width)
        scale = min(max(longest, SHORTEST), LONGEST) / longest
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if size != (width, height):
            small = cv2.resize(small, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        detector = self._detector()
        detector.setInputSize(size)
        _, found = detector.detect(small)
        if found is None:
            return []
        back = np.array([width / size[0], height / size[1]])
        faces = []
        for row in np.asarray(found, np.float64):
            box = (row[:4].reshape(2, 2) * back).ravel()
            if box[2] >= self.min_width:
                left, top, wide, high = (float(value) for value in box)
                landmarks = (row[4:14].reshape(5, 2) * back).astype(np.float32)
                faces.append(Face((left, top, wide, high), landmarks, float(row[14])))
        return _reading_order(faces)

    def cut(self, image: Image, size: int = TEMPLATE_SIZE) -> list[tuple[Image, Box]]:
        """Faces in an RGB image, in reading order: each aligned, uint8 (size, size, 3), and the box it was found in."""
        return [(align(image, face.landmarks, size), face.box) for face in self.find(image)]

    def _detector(self) -> Any:
        """One detector a thread: its input size is state."""
        if not hasattr(self._local, "detector"):
            buffer = np.frombuffer(self._model, np.uint8)
            try:
                with self._create, _quiet_opencv():
                    self._local.detector = cv2.FaceDetectorYN.create(
                        "onnx", buffer, np.empty(0, np.uint8), (SHORTEST, SHORTEST), self.score
                    )
            except cv2.error as error:
                raise ModelError(
                    f"{self._name}: OpenCV {cv2.__version__} cannot load this face detector ({getattr(error, 'err', error)})."
                ) from error
        return self._local.detector


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Without OpenCV's warnings on stderr about DNN targets, which no user can act on."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _reading_order(faces: list[Face]) -> list[Face]:
    """A face belongs to a row if its middle is less than half a face below the middle of the row's highest face."""
    rows: list[list[Face]] = []
    for face in sorted(faces, key=_middle):
        first = rows[-1][0] if rows else None
        if first is not None and _middle(face)[0] - _middle(first)[0] < first.box[3] / 2:
            rows[-1].append(face)
        else:
            rows.append([face])
    return [face for row in rows for face in sorted(row, key=lambda face: (face.box[0], face.box[1]))]


def _middle(face: Face) -> tuple[float, float]:
    return face.box[1] + face.box[3] / 2, face.box[0]


def align(image: Image, landmarks: NDArray[Any], size: int = TEMPLATE_SIZE) -> Image:
    """Cut a face out of an RGB image so that its landmarks come to lie on :data:`TEMPLATE`.

    Rotation, scale and shift are the least-squares fit of the five points (Umeyama, PAMI 1991; never a reflection).
    Large faces are averaged down before they are resampled; what lies outside the image is mirrored.

    Args:
        landmarks: (5, 2), x and y in pixels of ``image``.
        size: height and width of the result, pixels.

    Returns:
        uint8 (size, size, 3), RGB.

    Raises:
        DataError: the landmarks are not five points, or all the same point.
    """
    forward = _similarity(np.asarray(landmarks, np.float64), TEMPLATE * (size / TEMPLATE_SIZE))
    shrink = 1.0 / float(np.hypot(forward[0, 0], forward[1, 0]))
    step = max(1, round(shrink))
    to_image = np.asarray(cv2.invertAffineTransform(forward), np.float64)
    if step > 1:
        image, origin = _averaged(image, to_image, size, step)
        to_image[:, 2] -= origin + (step - 1) / 2
        to_image /= step
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if shrink > 1 else cv2.INTER_CUBIC)
    crop = cv2.warpAffine(image, to_image, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(crop, dtype=np.uint8)


def _similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3) matrix; in complex numbers the fit is one division: target = a * source + b."""
    if source.shape != target.shape:
        raise DataError(f"five landmarks of shape (5, 2) are needed to align a face, got {source.shape}.")
    x, y = source @ [1, 1j], target @ [1, 1j]
    spread = np.vdot(x - x.mean(), x - x.mean()).real
    if not spread > 0:
        raise DataError("the landmarks of a face are all the same point; it cannot be aligned.")
    a = np.vdot(x - x.mean(), y - y.mean()) / spread
    b = y.mean() - a * x.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _averaged(image: Image, to_image: NDArray[np.float64], size: int, step: int) -> tuple[Image, NDArray[np.float64]]:
    """The part of ``image`` that the crop reads, ``step`` x ``step`` pixels averaged to one, and its top left."""
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]], np.float64) @ to_image.T
    limit = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(corners.min(0)).astype(int) - 2 * step, 0, np.maximum(limit - step, 0))
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 2 * step, low + step, np.maximum(limit, low + step))
    count = np.maximum((high - low) // step, 1)
    right, bottom = low + count * step
    part = image[low[1] : bottom, low[0] : right]
    small = cv2.resize(part, (int(count[0]), int(count[1])), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8), low.astype(np.float64)


def encode_png(image: Image) -> bytes:
    """An RGB image as the bytes of a PNG file."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"an image of shape {image.shape} cannot be written as PNG.")
    return bytes(data)


@dataclass(frozen=True)
class AlignedFolder:
    """What :func:`align_folder` did.

    Attributes:
        written: the crops, in the order of the images.
        faceless: images in which no face was found.
        bad: images that cannot be read, each with the reason.
    """

    written: tuple[Path, ...]
    faceless: tuple[Path, ...]
    bad: tuple[tuple[Path, str], ...]


def align_folder(
    source: str | Path,
    out: str | Path,
    finder: FaceFinder,
    *,
    size: int = TEMPLATE_SIZE,
    most: int | None = None,
    progress: Progress | None = None,
    workers: int = 2,
) -> AlignedFolder:
    """Write every face below ``source`` as ``out/SUB/FOLDERS/stem-00.png``; files of the same name are overwritten.

    Args:
        size: height and width of the crops, pixels.
        most: at most so many faces an image, the most certain ones; None takes all.

    Raises:
        DataError: ``source`` holds no image, or ``out`` lies inside it (its crops would be photographs next time).
    """
    source, out = Path(source), Path(out)
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out}: lies inside {source}; write the crops to another folder.")
    paths = find_images(source)
    stems = Counter((path.parent, path.stem.lower()) for path in paths)

    def work(path: Path) -> list[Path] | str:
        try:
            image = decode(path)
        except DataError as error:
            return str(error)
        alone = stems[path.parent, path.stem.lower()] == 1
        target = out / path.parent.relative_to(source) / (path.stem if alone else path.name)
        written = []
        for number, face in enumerate(_best(finder.find(image), most)):
            written.append(target.with_name(f"{target.name}-{number:02d}.png"))
            write_bytes(written[-1], encode_png(align(image, face.landmarks, size)))
        return written

    crops: list[Path] = []
    faceless: list[Path] = []
    bad: list[tuple[Path, str]] = []
    with ThreadPoolExecutor(workers) as pool:
        for done, (path, result) in enumerate(zip(paths, pool.map(work, paths), strict=True), 1):
            if isinstance(result, str):
                bad.append((path, result))
            elif result:
                crops += result
            else:
                faceless.append(path)
            if progress:
                progress(done, len(paths))
    return AlignedFolder(tuple(crops), tuple(faceless), tuple(bad))


def _best(faces: list[Face], most: int | None) -> list[Face]:
    if most is None or len(faces) <= most:
        return faces
    chosen = sorted(range(len(faces)), key=lambda i: -faces[i].score)[:most]
    return [faces[i] for i in sorted(chosen)]
