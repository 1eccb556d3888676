"""Sensors of machines that are folders here: a laptop, a Jetson, a Raspberry Pi, a container."""

from pathlib import Path

import pytest

from kdedge.runtime import sensors
from kdedge.runtime.sensors import Activity


def put(root: Path, name: str, text: object) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def silent(words: object) -> str:
    return ""


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert sensors.temperatures(tmp_path) == {}
    assert sensors.clocks(tmp_path) == {}
    assert sensors.power_mode(tmp_path, silent) == ""
    assert sensors.jetson(tmp_path) == {}
    assert sensors.throttling(tmp_path, silent) == {}
    assert sensors.memory(tmp_path) == {}
    assert sensors.activity(tmp_path) is None


def test_temperatures(tmp_path: Path) -> None:
    for place, (name, value) in enumerate([("acpitz", 45000), ("acpitz", 46000), ("broken", "x"), ("off", -256000)]):
        put(tmp_path, f"sys/class/thermal/thermal_zone{place}/type", name)
        put(tmp_path, f"sys/class/thermal/thermal_zone{place}/temp", value)
    put(tmp_path, "sys/class/thermal/thermal_zone10/type", "last")
    put(tmp_path, "sys/class/thermal/thermal_zone10/temp", 30500)
    put(tmp_path, "sys/class/hwmon/hwmon0/name", "k10temp")
    put(tmp_path, "sys/class/hwmon/hwmon0/temp1_input", 61250)
    put(tmp_path, "sys/class/hwmon/hwmon0/temp1_label", "Tctl")
    put(tmp_path, "sys/class/hwmon/hwmon1/name", "nvme")
    put(tmp_path, "sys/class/hwmon/hwmon1/temp1_input", 50000)
    wanted = {"acpitz": 45.0, "acpitz 2": 46.0, "last": 30.5, "k10temp Tctl": 61.25}
    assert sensors.temperatures(tmp_path) == wanted


def test_clocks(tmp_path: Path) -> None:
    for place, (governor, now) in enumerate([("performance", 3_000_000), ("powersave", 1_000_000)]):
        folder = f"sys/devices/system/cpu/cpu{place}/cpufreq"
        for name, value in (
            ("scaling_governor", governor),
            ("scaling_cur_freq", now),
            ("scaling_min_freq", 400_000),
            ("scaling_max_freq", 4_000_000),
        ):
            put(tmp_path, f"{folder}/{name}", value)
    put(tmp_path, "sys/devices/system/cpu/intel_pstate/no_turbo", 1)
    assert sensors.clocks(tmp_path) == {
        "governor": "performance, powersave",
        "min_mhz": 400,
        "max_mhz": 4000,
        "mhz": 2000,
        "boost": False,
    }


RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025"
)


def test_a_jetson(tmp_path: Path) -> None:
    put(tmp_path, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    put(tmp_path, "etc/nv_tegra_release", RELEASE)
    packages = "Package: nvidia-jetpack-dev\nVersion: 9.9\n\nPackage: nvidia-jetpack\nStatus: ok\nVersion: 6.2+b77\n"
    put(tmp_path, "var/lib/dpkg/status", packages)
    found = sensors.jetson(tmp_path)
    assert found == {"model": "NVIDIA Jetson Orin Nano Developer Kit", "l4t": "36.4.3", "jetpack": "6.2"}
    assert sensors.power_mode(tmp_path, lambda words: "NV Power Mode: MAXN_SUPER\n2") == "MAXN_SUPER (mode 2)"
    put(tmp_path, "var/lib/nvpmodel/status", "pmode:0001")
    assert sensors.power_mode(tmp_path, silent) == "mode 1"
    put(tmp_path, "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >")
    assert sensors.power_mode(tmp_path, silent) == "25W (mode 1)"


def test_a_jetson_that_says_little(tmp_path: Path) -> None:
    put(tmp_path, "etc/nv_tegra_release", "garbled")
    assert sensors.jetson(tmp_path) == {"model": "", "l4t": "", "jetpack": ""}


def test_a_laptop(tmp_path: Path) -> None:
    put(tmp_path, "sys/firmware/acpi/platform_profile", "balanced")
    put(tmp_path, "sys/class/power_supply/BAT0/type", "Battery")
    put(tmp_path, "sys/class/power_supply/AC/type", "Mains")
    put(tmp_path, "sys/class/power_supply/AC/online", 0)
    asked: list[object] = []
    assert sensors.power_mode(tmp_path, lambda words: asked.append(words) or "") == "balanced, battery"
    assert not asked
    put(tmp_path, "sys/class/power_supply/AC/online", 1)
    assert sensors.power_mode(tmp_path, silent) == "balanced, mains"


def test_throttling(tmp_path: Path) -> None:
    for place in (0, 1):
        put(tmp_path, f"sys/devices/system/cpu/cpu{place}/thermal_throttle/core_throttle_count", 4)
    put(tmp_path, "sys/fs/cgroup/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 7\nthrottled_usec 3")
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0")
    assert sensors.throttling(tmp_path, lambda words: "throttled=0x50004") == {
        "thermal": 8,
        "cgroup": 7,
        "pi": ["throttled"],
        "pi_since_start": ["under-voltage", "throttled"],
    }


def test_memory(tmp_path: Path) -> None:
    put(tmp_path, "proc/meminfo", "MemTotal:        1000000 kB\nMemFree: 1 kB\nMemAvailable:   500000 kB")
    put(tmp_path, "sys/fs/cgroup/memory.max", "max")
    assert sensors.memory(tmp_path) == {"total_mb": 1024, "available_mb": 512}
    put(tmp_path, "sys/fs/cgroup/memory.max", 300_000_000)
    put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", 9223372036854771712)
    assert sensors.memory(tmp_path)["cgroup_mb"] == 300


def test_activity(tmp_path: Path) -> None:
    put(tmp_path, "proc/stat", "cpu  10 1 2 100 5 3 4 6 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0")
    found = sensors.activity(tmp_path)
    assert found is not None
    assert (found.total, found.busy, found.stolen) == (131, 20, 6)
    assert found.own > 0
    before, after = Activity(1000, 100, 10, 50.0), Activity(2000, 700, 60, 450.0)
    assert after.since(before) == pytest.approx((0.2, 0.05))
    assert before.since(before) is None


def test_tools_that_fail_say_nothing() -> None:
    assert sensors.run_tool(["no-such-program-here"]) == ""
    assert sensors.run_tool(["sh", "-c", "echo x; exit 1"]) == ""
    assert sensors.run_tool(["sh", "-c", "echo x"]) == "x"
