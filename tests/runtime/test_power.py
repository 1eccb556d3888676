"""Energy counters of machines that are folders here."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from kdedge.runtime.bench.energy import measure_energy
from kdedge.runtime.power import Ina3221, Meter, Nvml, Rail, Rapl, energy_sensor
from tests.runtime.test_sensors import put


def absent(name: str) -> Any:
    raise OSError(f"{name}: no such library")


def rapl(root: Path) -> None:
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "dram")):
        put(root, f"sys/class/powercap/{zone}/name", name)
        put(root, f"sys/class/powercap/{zone}/energy_uj", 100)
        put(root, f"sys/class/powercap/{zone}/max_energy_range_uj", 1_000_000)
    put(root, "sys/class/powercap/intel-rapl-mmio:0/name", "package-0")  # the same counter once more


def test_rapl_adds_packages_and_memory_and_begins_again(tmp_path: Path) -> None:
    rapl(tmp_path)
    sensor, reason = energy_sensor(tmp_path)
    assert isinstance(sensor, Rapl)
    assert (sensor.scope, reason) == ("package-0 + dram of package-0", "")
    sensor.update(0.0)
    assert sensor.joules == 0.0
    put(tmp_path, "sys/class/powercap/intel-rapl:0/energy_uj", 500_100)
    sensor.update(1.0)
    assert sensor.joules == pytest.approx(0.5)
    put(tmp_path, "sys/class/powercap/intel-rapl:0/energy_uj", 100)  # 1 J further, past the end
    put(tmp_path, "sys/class/powercap/intel-rapl:0:1/energy_uj", 200_100)
    put(tmp_path, "sys/class/powercap/intel-rapl:0:0/energy_uj", 999_999)
    sensor.update(2.0)
    assert sensor.joules == pytest.approx(1.2)


def test_rapl_that_only_root_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rapl(tmp_path)
    read_text = Path.read_text

    def refused(self: Path, *arguments: Any, **named: Any) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(self, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", refused)
    sensor, reason = energy_sensor(tmp_path)
    assert sensor is None
    assert "sudo chmod a+r" in reason


def channel(root: Path, place: int, name: str, millivolts: int, milliamperes: int) -> None:
    for key, value in (
        (f"in{place}_label", name),
        (f"in{place}_input", millivolts),
        (f"curr{place}_input", milliamperes),
    ):
        put(root, f"sys/class/hwmon/hwmon3/{key}", value)
    put(root, "sys/class/hwmon/hwmon3/name", "ina3221")


def test_a_jetson_with_a_rail_for_all(tmp_path: Path) -> None:
    channel(tmp_path, 1, "VDD_IN", 5000, 2000)
    channel(tmp_path, 2, "VDD_CPU_GPU_CV", 5000, 700)
    put(tmp_path, "sys/class/hwmon/hwmon3/in7_label", "sum of shunt voltages")
    sensor, _ = energy_sensor(tmp_path, gpu=True, load=absent)
    assert isinstance(sensor, Ina3221)
    assert sensor.scope == "VDD_IN"
    sensor.update(0.0)
    put(tmp_path, "sys/class/hwmon/hwmon3/curr1_input", 4000)
    sensor.update(2.0)
    assert sensor.joules == pytest.approx((10 + 20) / 2 * 2)


def test_a_jetson_whose_rails_must_be_added(tmp_path: Path) -> None:
    for place, name in enumerate(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), 1):
        channel(tmp_path, place, name, 1000, 1000 * place)
    sensor, _ = energy_sensor(tmp_path)
    assert sensor is not None
    sensor.update(0.0)
    sensor.update(1.0)
    assert sensor.joules == pytest.approx(6.0)


def test_rails_that_nobody_knows_are_not_added_up(tmp_path: Path) -> None:
    channel(tmp_path, 1, "VDD_SOMETHING", 1000, 1000)
    sensor, reason = energy_sensor(tmp_path, gpu=True, load=absent)
    assert sensor is None
    assert "VDD_SOMETHING" in reason
    assert "libnvidia-ml" in reason


def test_a_jetson_of_jetpack_4(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    put(tmp_path, f"{folder}/rail_name_0", "POM_5V_IN")
    put(tmp_path, f"{folder}/in_power0_input", 3000)
    sensor, _ = energy_sensor(tmp_path)
    assert sensor is not None
    sensor.update(0.0)
    sensor.update(2.0)
    assert (sensor.scope, sensor.joules) == ("POM_5V_IN", pytest.approx(6.0))


class Library:
    """Plays NVML: a counter in millijoules."""

    def __init__(self, broken: int = 0) -> None:
        self.value, self.broken = 5000, broken

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device: Any, value: Any) -> int:
        value._obj.value = self.value
        return self.broken


def test_a_gpu_comes_before_the_processor(tmp_path: Path) -> None:
    rapl(tmp_path)
    library = Library()
    sensor, _ = energy_sensor(tmp_path, gpu=True, load=lambda name: library)
    assert isinstance(sensor, Nvml)
    sensor.update(0.0)
    library.value += 2500
    sensor.update(1.0)
    assert sensor.joules == pytest.approx(2.5)
    sensor, reason = energy_sensor(tmp_path, gpu=True, load=lambda name: Library(broken=3))
    assert sensor is None  # the processor's counter would know nothing of the GPU
    assert "no energy counter (NVML error 3)" in reason


def test_a_meter_reads_on_its_own(tmp_path: Path) -> None:
    rail = Rail("VDD_IN", lambda: 1000.0)
    sensor = Ina3221([rail])
    updates: list[float] = []
    plain = sensor.update
    sensor.update = lambda now: (updates.append(now), plain(now))[1]  # type: ignore[method-assign]
    with Meter(sensor) as meter:
        deadline = time.monotonic() + 10
        while len(updates) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        joules, now = meter.read()
    assert len(updates) >= 5
    assert joules == pytest.approx(now - updates[0])


def test_a_meter_whose_sensor_dies(tmp_path: Path) -> None:
    path = tmp_path / "power"
    path.write_text("1000")
    sensor = Ina3221([Rail("VDD_IN", lambda: float(path.read_text()))])
    with Meter(sensor) as meter:
        os.unlink(path)  # noqa: PTH108
        meter._thread.join(10)
        with pytest.raises(OSError, match="INA3221 cannot be read any more"):
            meter.read()


class Bench:
    """A clock and a counter: 2 W at rest, 2 W and 0.5 J for each run of a tenth of a second besides."""

    name, scope, interval = "RAPL", "package-0", 1e9

    def __init__(self, moves: bool = True) -> None:
        self.now, self.joules, self.moves, self._seen = 0.0, 0.0, moves, 0.0

    def update(self, now: float) -> None:
        self.joules += 2.0 * (now - self._seen) * self.moves
        self._seen = now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self) -> None:
        self.now += 0.1
        self.joules += 0.5 * self.moves


def test_energy_above_idle() -> None:
    bench = Bench()
    seen: list[tuple[int, int]] = []
    found, reason = measure_energy(
        {"a": bench.run},
        {"a": 2},
        bench,
        lambda done, total, note="": seen.append((done, total)),
        seconds=0.95,
        idle_seconds=3.0,
        rounds=2,
        clock=lambda: bench.now,
        sleep=bench.sleep,
    )
    assert reason == ""
    a = found["a"]
    assert a.j_per_image == pytest.approx(0.25)
    assert a.gross_j_per_image == pytest.approx((0.5 + 0.2) / 2)
    assert (a.idle_w, a.busy_w) == (pytest.approx(2.0), pytest.approx(7.0))
    assert a.images == 2 * 2 * 10
    assert seen == [(1, 2), (2, 2)]


def test_a_counter_that_stands_still_gives_nothing() -> None:
    bench = Bench(moves=False)
    found, reason = measure_energy(
        {"a": bench.run}, {"a": 1}, bench, seconds=0.2, rounds=1, clock=lambda: bench.now, sleep=bench.sleep
    )
    assert found == {}
    assert "stands still" in reason
