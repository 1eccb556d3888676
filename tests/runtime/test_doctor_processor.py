"""What follows from flags, cores, limits, governors; played by folders."""

from pathlib import Path

import pytest

from kdedge.runtime.doctor.memory import check_disk, check_memory
from kdedge.runtime.doctor.processor import check_clock, check_cpu, check_frequency, check_instructions, check_threads
from tests.runtime.machines import JETSON, PI, machine

CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"


def flags(*names: str) -> dict[str, str]:
    return {"proc/cpuinfo": f"model name\t: A Processor\nflags\t\t: fpu sse {' '.join(names)}\n"}


@pytest.mark.parametrize(
    ("names", "status", "words"),
    [
        (("avx2", "avx512f", "avx512_vnni"), "ok", "AVX-512 VNNI"),
        (("avx2", "avx_vnni"), "ok", "AVX-VNNI"),
        (("avx2", "avx512f", "avx512_vnni", "amx_int8"), "ok", "AMX int8"),
        (("avx2",), "warn", "AVX2, no VNNI"),
        ((), "warn", "none of AVX2"),
    ],
)
def test_x86(tmp_path: Path, names: tuple[str, ...], status: str, words: str) -> None:
    found = check_instructions(machine(tmp_path, flags(*names), arch="x86_64"))
    assert found.status == status
    assert words in found.found
    assert ("--no-vnni" in found.advice) == (status == "warn")


def test_arm(tmp_path: Path) -> None:
    new = check_instructions(machine(tmp_path, PI))
    assert (new.status, new.details["flags"]) == ("ok", ["asimd", "asimddp"])
    old = check_instructions(machine(tmp_path, {"proc/cpuinfo": "Features\t: fp asimd crc32\n"}))
    assert old.status == "info"
    assert "no dot product" in old.found


def test_macs_and_windows(tmp_path: Path) -> None:
    told = {"sysctl": (0, "hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\nhw.optional.avx2_0: 0")}
    mac = machine(tmp_path, told=told, arch="arm64", system="Darwin")
    assert check_instructions(mac).details["flags"] == ["asimd", "asimddp"]
    windows = machine(tmp_path, arch="amd64", system="Windows", environ={"PROCESSOR_IDENTIFIER": "Intel64 Family 6"})
    assert check_instructions(windows).status == "info"
    assert "Intel64" in check_cpu(windows).found


def test_two_threads_of_a_core_are_told_apart(tmp_path: Path) -> None:
    files = {**flags("avx2"), "sys/devices/system/cpu/online": "0-3"}
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = siblings
    here = machine(tmp_path, files, arch="x86_64")
    assert check_cpu(here).details["cores"] == 2
    assert check_cpu(here).details["threads"] == 4
    assert check_threads(here).details["usable"] == 2


@pytest.mark.parametrize(
    ("files", "quota", "usable", "status"),
    [
        ({}, None, 4, "ok"),
        ({"proc/self/cgroup": "0::/box", "sys/fs/cgroup/box/cpu.max": "250000 100000"}, 2.5, 2, "info"),
        ({"proc/self/cgroup": "0::/box", "sys/fs/cgroup/box/cpu.max": "50000 100000"}, 0.5, 1, "warn"),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/box",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
            },
            1.0,
            1,
            "info",
        ),
    ],
)
def test_quotas(tmp_path: Path, files: dict[str, str], quota: float | None, usable: int, status: str) -> None:
    found = check_threads(machine(tmp_path, {**files, "sys/devices/system/cpu/online": "0-3"}))
    assert (found.details["quota"], found.details["usable"], found.status) == (quota, usable, status)


def test_affinity_and_openmp_are_told(tmp_path: Path) -> None:
    here = machine(tmp_path, {"sys/devices/system/cpu/online": "0-7"}, cpus=2, environ={"OMP_NUM_THREADS": "1"})
    found = check_threads(here)
    assert "the affinity allows 2 of 8" in found.found
    assert "OMP_NUM_THREADS=1 concerns" in found.found


def test_powersave_is_a_warning_only_where_it_saves_power(tmp_path: Path) -> None:
    files = {f"{CPUFREQ}/scaling_governor": "powersave", f"{CPUFREQ}/scaling_driver": "cpufreq-dt"}
    found = check_frequency(machine(tmp_path, files))
    assert found.status == "warn"
    assert "scaling_governor" in found.advice
    intel = check_frequency(machine(tmp_path, {**files, f"{CPUFREQ}/scaling_driver": "intel_pstate"}))
    assert intel.status == "ok"


def test_a_cap_and_a_load_are_told(tmp_path: Path) -> None:
    capped = {**JETSON, f"{CPUFREQ}/scaling_max_freq": "1190400"}
    assert "1.2 of 1.7 GHz" in check_frequency(machine(tmp_path, capped)).found
    busy = check_frequency(machine(tmp_path, {**JETSON, "proc/loadavg": "7.25 3.1 2.0 1/99 1234"}))
    assert (busy.status, busy.details["load"]) == ("info", 7.25)


def test_a_laptop_on_its_battery(tmp_path: Path) -> None:
    files = {
        "sys/firmware/acpi/platform_profile": "balanced",
        "sys/class/power_supply/BAT0/type": "Battery",
        "sys/class/power_supply/AC/type": "Mains",
        "sys/class/power_supply/AC/online": "0",
    }
    found = check_frequency(machine(tmp_path, files, arch="x86_64"))
    assert (found.status, found.details["power_mode"]) == ("info", "balanced, battery")
    assert "plug it in" in found.advice


def test_a_clock_in_the_past(tmp_path: Path) -> None:
    early = check_clock(machine(tmp_path, now=0.0))
    assert (early.status, early.details["date"]) == ("warn", "1970-01-01")
    assert check_clock(machine(tmp_path, now=4e9)).status == "ok"


def meminfo(free: int, total: int = 8_000_000) -> dict[str, str]:
    return {"proc/meminfo": f"MemTotal: {total} kB\nMemFree: 1 kB\nMemAvailable: {free} kB\nSwapTotal: 102400 kB\n"}


@pytest.mark.parametrize(("free", "status"), [(4_000_000, "ok"), (200_000, "warn"), (50_000, "problem")])
def test_free_memory(tmp_path: Path, free: int, status: str) -> None:
    found = check_memory(machine(tmp_path, meminfo(free)))
    assert (found.status, found.details["free"], found.details["swap"]) == (status, free * 1024, 102400 * 1024)


def test_the_cgroup_s_memory_counts_without_its_cached_files(tmp_path: Path) -> None:
    files = {
        **meminfo(4_000_000),
        "proc/self/cgroup": "0::/pod/box",
        "sys/fs/cgroup/pod/memory.max": str(512 * 2**20),
        "sys/fs/cgroup/pod/memory.current": str(500 * 2**20),
        "sys/fs/cgroup/pod/memory.stat": f"anon 1\ninactive_file {400 * 2**20}\n",
        "sys/fs/cgroup/pod/box/memory.max": "max",
    }
    found = check_memory(machine(tmp_path, files))
    assert (found.status, found.details["free"]) == ("ok", 412 * 2**20)
    full = check_memory(machine(tmp_path, {**files, "sys/fs/cgroup/pod/memory.stat": "anon 1\n"}))
    assert (full.status, full.details["free"]) == ("problem", 12 * 2**20)


def test_memory_of_version_1(tmp_path: Path) -> None:
    files = {
        **meminfo(4_000_000),
        "proc/self/cgroup": "4:memory:/box",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": str(10**9),
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": str(8 * 10**8),
    }
    found = check_memory(machine(tmp_path, files))
    assert (found.status, found.details["free"], found.details["cgroup_limit"]) == ("warn", 2 * 10**8, 10**9)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_disk().status == "ok"
    (tmp_path / "file").touch()
    monkeypatch.setenv("KDEDGE_CACHE", str(tmp_path / "file/below"))
    found = check_disk()
    assert found.status == "problem"
    assert "KDEDGE_CACHE" in found.advice
