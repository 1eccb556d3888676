"""Where onnxruntime-web lies once it was fetched: its version, its files, and how each is called on a site."""

from dataclasses import dataclass
from pathlib import Path

from kdedge.files import cache_dir

__all__ = ["COMMAND", "FILES", "INTEGRITY", "PACKAGE", "VERSION", "Runtime", "find_runtime", "inside_package"]

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"

INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the package, as the npm registry publishes it."""

COMMAND = "python -m kdedge.runtime.web.vendor"
"""What fetches it."""

SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"

FILES = {SCRIPT: "ort/ort.wasm.bundle.min.js", WASM: "ort/ort-wasm-simd-threaded.wasm"}
"""Files of the package and their paths on a site. The script ends in .js there: not every server knows what .mjs is, and a
module of an unknown type is refused."""

LICENCES = {"LICENSE.txt": "ort/LICENSE.txt", "ThirdPartyNotices.txt": "ort/ThirdPartyNotices.txt"}
"""Likewise of what is laid beside; the notices may be missing."""


@dataclass(frozen=True)
class Runtime:
    """onnxruntime-web as it was fetched.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    def paths(self) -> dict[str, Path]:
        """Path on a site to the file here, licences included."""
        found = {site: self.folder / name for name, site in {**FILES, **LICENCES}.items()}
        return {site: path for site, path in found.items() if path.is_file()}

    def describe(self) -> dict[str, object]:
        """What the page has to know to load it."""
        return {
            "version": VERSION,
            "script": FILES[SCRIPT],
            "wasm": FILES[WASM],
            "bytes": sum((self.folder / name).stat().st_size for name in FILES),
        }


def inside_package() -> Path:
    """Where a wheel carries it; absent in a checkout where nobody put it there."""
    return Path(__file__).parent / "vendor" / VERSION


def find_runtime() -> Runtime | None:
    """onnxruntime-web of :data:`VERSION`, in the package or in kdedge's cache; None if it was not fetched."""
    found = _complete(inside_package())
    if found:
        return found
    try:
        return _complete(cache_dir("web") / VERSION)
    except OSError:  # a home that nobody may write to
        return None


def _complete(folder: Path) -> Runtime | None:
    return Runtime(folder) if all((folder / name).is_file() for name in FILES) else None
