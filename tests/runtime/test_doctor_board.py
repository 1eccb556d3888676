"""Boards, containers and GPUs, played by folders."""

from pathlib import Path

import pytest

from kdedge.runtime.doctor.board import check_container, check_gpu, check_jetson, check_pi, check_temperature
from tests.runtime.machines import JETSON, PI, machine


def test_a_jetson_says_what_it_is(tmp_path: Path) -> None:
    model, tensorrt, power = check_jetson(machine(tmp_path, JETSON))
    assert (model.status, model.details["l4t"], model.details["jetpack"]) == ("ok", "36.4.3", "6.2")
    assert "Jetson Orin Nano" in model.found
    assert (tensorrt.status, tensorrt.details["versions"]) == ("ok", ["10.3.0"])
    assert power.details == {"mode": "25W (mode 1)", "clocks_fixed": False}
    assert "nvpmodel -m" in power.advice
    assert "jetson_clocks" in power.advice


def test_a_jetson_at_full_power_needs_no_advice(tmp_path: Path) -> None:
    files = {
        **JETSON,
        "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "1728000\n",
    }
    power = list(check_jetson(machine(tmp_path, files)))[-1]
    assert (power.found, power.advice) == ("MAXN_SUPER (mode 2), clocks fixed", "")


def test_the_power_mode_is_asked_for_where_no_file_tells(tmp_path: Path) -> None:
    files = {name: text for name, text in JETSON.items() if "nvpmodel" not in name}
    asked = machine(tmp_path, files, told={"nvpmodel": (0, "NV Power Mode: MODE_15W_6CORE\n2")})
    assert list(check_jetson(asked))[-1].details["mode"] == "MODE_15W_6CORE (mode 2)"
    assert list(check_jetson(machine(tmp_path)))[-1].found.startswith("not told")


def test_jetpack_5_is_told_that_the_gpu_is_out_of_reach(tmp_path: Path) -> None:
    old = {"etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n"}
    model, tensorrt, _ = check_jetson(machine(tmp_path, old))
    assert (model.status, model.details["jetpack"], model.details["l4t"]) == ("warn", "5", "35.4.1")
    assert "Python 3.8" in model.advice
    assert tensorrt.status == "warn"
    assert "--runtime nvidia" in tensorrt.advice


@pytest.mark.parametrize(
    ("bits", "status", "words"),
    [
        ("0", "ok", "never throttled"),
        ("50005", "warn", "now under-voltage, throttled"),
        ("80000", "warn", "since the start soft temperature limit"),
    ],
)
def test_throttling_of_a_pi(tmp_path: Path, bits: str, status: str, words: str) -> None:
    files = {**PI, "sys/devices/platform/soc/soc:firmware/get_throttled": f"{bits}\n"}
    model, supply = check_pi(machine(tmp_path, files))
    assert (model.status, supply.status) == ("ok", status)
    assert words in supply.found


def test_vcgencmd_tells_what_sysfs_does_not(tmp_path: Path) -> None:
    files = {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4"}
    told = {"vcgencmd": (0, "throttled=0x20002")}
    assert list(check_pi(machine(tmp_path, files, told=told)))[1].details["now"] == ["frequency capped"]
    assert list(check_pi(machine(tmp_path, files)))[1].status == "info"


def test_a_32_bit_system_is_a_problem(tmp_path: Path) -> None:
    model = next(iter(check_pi(machine(tmp_path, PI, arch="armv7l", bits=32))))
    assert model.status == "problem"
    assert "64-bit" in model.advice


def test_boards_are_silent_elsewhere(tmp_path: Path) -> None:
    plain = machine(tmp_path, {}, arch="x86_64")
    assert [*check_jetson(plain), *check_pi(plain), *check_temperature(plain), *check_container(plain)] == []


def test_temperature_is_the_hottest_that_makes_sense(tmp_path: Path) -> None:
    files = {
        **PI,
        "sys/class/thermal/thermal_zone1/type": "broken",
        "sys/class/thermal/thermal_zone1/temp": "-274000",
        "sys/class/thermal/thermal_zone2/temp": "no number",
    }
    (hot,) = check_temperature(machine(tmp_path, files))
    assert (hot.status, hot.found) == ("warn", "81 °C (cpu-thermal)")
    (cool,) = check_temperature(machine(tmp_path, {**files, "sys/class/thermal/thermal_zone0/temp": "45000"}))
    assert (cool.status, cool.details["celsius"]) == ("ok", {"cpu-thermal": 45.0})


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({".dockerenv": ""}, {}, "Docker"),
        ({"run/.containerenv": ""}, {}, "Podman"),
        ({}, {"container": "systemd-nspawn"}, "systemd-nspawn"),
        ({"proc/1/cgroup": "0::/kubepods/besteffort/pod1\n"}, {}, "kubepods"),
    ],
)
def test_containers(tmp_path: Path, files: dict[str, str], environ: dict[str, str], kind: str) -> None:
    (found,) = check_container(machine(tmp_path, files, environ=environ))
    assert found.details["kind"] == kind
    assert "--gpus all" in found.advice


def test_gpus(tmp_path: Path) -> None:
    line = "NVIDIA RTX A2000, 570.86.15, 6138 MiB, 8.6"
    (seen,) = check_gpu(machine(tmp_path, told={"nvidia-smi": (0, f"{line}\n{line}")}))
    assert (seen.status, len(seen.details["gpus"])) == ("ok", 2)
    assert seen.details["gpus"][0]["compute_capability"] == "8.6"
    words = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\nmore"
    (broken,) = check_gpu(machine(tmp_path, told={"nvidia-smi": (9, words)}))
    assert broken.status == "warn"
    assert words.splitlines()[0] in broken.found
    (none,) = check_gpu(machine(tmp_path))
    assert (none.status, none.details) == ("info", {"gpus": []})
    assert list(check_gpu(machine(tmp_path, JETSON))) == []
