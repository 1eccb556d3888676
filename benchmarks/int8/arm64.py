"""An ARM64 Python with onnxruntime on an x86 machine: Debian packages and wheels, unpacked into a folder, run by qemu.

Nothing of the host is changed: apt works with lists and a state of its own, packages are unpacked, not installed.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from kdedge.errors import ModelError
from kdedge.files import cache_dir, write_text

__all__ = ["CPUS", "Guest", "prepare"]

PYTHON = "3.11"
PACKAGES = (
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libbz2-1.0",
    "liblzma5",
    "libexpat1",
    "libffi8",
    "libssl3",
    f"libpython{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
    f"python{PYTHON}-minimal",
)
WHEELS = ("numpy", "onnxruntime")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")

CPUS = {
    "cortex-a72": ("0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc asimddp",
    ),
    "neoverse-n1": (
        "0xd0c",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc asimddp",
    ),
}
"""Name to part number and features: the Raspberry Pi 4's, which has no dot product, the Pi 5's, and a server's."""


@dataclass(frozen=True)
class Guest:
    """What :func:`prepare` unpacked.

    Attributes:
        home: the folder with qemu (``qemu``), the user land (``root``) and the wheels (``site``).
    """

    home: Path

    def run(self, script: Path, *words: object, cpu: str, timeout: float = 3600.0) -> str:
        """Run a Python script on an emulated processor; what it printed.

        Raises:
            ModelError: it failed.
        """
        root = self.home / "root"
        write_text(root / "proc" / "cpuinfo", cpuinfo(cpu))
        command = [str(self.home / "qemu"), "-cpu", cpu, "-L", str(root)]
        for name, value in (("PYTHONHOME", root / "usr"), ("PYTHONPATH", self.home / "site")):
            command += ["-E", f"{name}={value}"]
        command += [str(root / "usr" / "bin" / f"python{PYTHON}"), "-X", "faulthandler", str(script), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise ModelError(f"{script.name} failed on the emulated {cpu}: {last[0]}")
        return done.stdout


def cpuinfo(cpu: str, cores: int = 2) -> str:
    """``/proc/cpuinfo`` as such a processor has it; qemu shows the host's, where onnxruntime finds no ARM core and crashes."""
    part, features = CPUS[cpu]
    one = f"Features\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\n"
    one += f"CPU part\t: {part}\nCPU revision\t: 1\n"
    return "\n".join(f"processor\t: {number}\n{one}" for number in range(cores))


def prepare(onnxruntime: str, numpy: str) -> Guest:
    """The guest with these versions from the cache, made on the first call (about 150 MB are fetched, 500 MB are kept).

    Raises:
        ModelError: the host has no apt, is not Debian 12, or a package cannot be fetched.
    """
    home = cache_dir("arm64") / f"ort{onnxruntime}-numpy{numpy}"
    if (home / "done").is_file():
        return Guest(home)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ModelError("an ARM64 user land is made of Debian packages, and this machine has no apt-get and dpkg-deb.")
    shutil.rmtree(home, ignore_errors=True)
    packages, wheels = home / "packages", home / "wheels"
    packages.mkdir(parents=True)
    wheels.mkdir()
    _fetch_packages(home, packages)
    for package in packages.glob("*_arm64.deb"):
        _run("dpkg-deb", "-x", package, home / "root")
    _run("dpkg-deb", "-x", next(packages.glob("qemu-user-static_*.deb")), home / "emulator")
    shutil.copy2(home / "emulator" / "usr" / "bin" / "qemu-aarch64-static", home / "qemu")
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    wanted = [f"{name}=={version}" for name, version in zip(WHEELS, (numpy, onnxruntime), strict=True)]
    alone = ("--only-binary=:all:", "--no-deps", "--python-version", PYTHON)
    _run(sys.executable, "-m", "pip", "download", "-q", *alone, *platforms, "-d", wheels, *wanted)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(home / "site")
    for spent in ("packages", "wheels", "emulator", "apt"):
        shutil.rmtree(home / spent)
    (home / "done").touch()
    return Guest(home)


def _fetch_packages(home: Path, packages: Path) -> None:
    """Into the folder ``packages``, from the sources that the host's apt knows."""
    state = home / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()
    own = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in own.items() for word in ("-o", f"{name}={value}")]
    options += ["-o", "APT::Architectures::=amd64"]
    _run("apt-get", "-qq", *options, "update")
    _run("apt-get", "-qq", *options, "download", *PACKAGES, "qemu-user-static:amd64", folder=packages)


def _run(*words: object, folder: Path | None = None) -> None:
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode:
        last = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()][-1:]
        raise ModelError(f"{words[0]} ended with status {done.returncode}: {last[0] if last else 'it said nothing'}")
