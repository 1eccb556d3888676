"""Machines that are not here, as folders: a Raspberry Pi, Jetsons, containers with limits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kdedge.runtime.doctor.check import Machine

__all__ = ["JETSON", "PI", "machine", "write"]

PI: Mapping[str, str] = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd aes crc32 asimddp cpuid\n\nModel\t\t: Raspberry Pi 5\n",
    "sys/devices/system/cpu/online": "0-3\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "81250\n",
    "sys/class/video4linux/video0/name": "rp1-cfe-csi2_ch0\n",
    "dev/video0": "",
    "sys/class/video4linux/video19/name": "pispbe-input\n",
    "dev/video19": "",
}

JETSON: Mapping[str, str] = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "var/lib/dpkg/status": "Package: nano\nVersion: 6.2\n\nPackage: nvidia-jetpack\nStatus: installed\nVersion: 6.2+b77\n\n",
    "var/lib/nvpmodel/status": "pmode:0001 fmode:quiet\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.10": "",
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\n",
    "sys/devices/system/cpu/online": "0-5\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "729600\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1728000\n",
}


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write files below a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def machine(
    root: Path,
    files: Mapping[str, str] = {},
    *,
    told: Mapping[str, tuple[int, str]] = {},
    environ: Mapping[str, str] = {},
    arch: str = "aarch64",
    system: str = "Linux",
    bits: int = 64,
    cpus: int = 4,
    now: float = 4e9,
) -> Machine:
    """A machine made of files; ``told`` is what its commands print, by their first word."""

    def call(words: Sequence[str]) -> tuple[int, str]:
        return told.get(words[0], (-1, ""))

    return Machine(write(root, files), dict(environ), arch, system, bits, frozenset(range(cpus)), now, call)
