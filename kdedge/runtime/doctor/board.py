"""What the machine is beyond its processor: Jetson, Raspberry Pi, container, NVIDIA GPU; and how hot."""

import re
from collections.abc import Iterator

from kdedge.runtime import sensors
from kdedge.runtime.doctor.check import Check, Machine
from kdedge.runtime.sensors import PI_FLAGS

__all__ = ["check_container", "check_gpu", "check_jetson", "check_pi", "check_temperature"]

JETPACK = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}
"""JetPack's major version by that of Jetson Linux (L4T)."""

PYTHON_OF = {4: "3.6", 5: "3.8", 6: "3.10", 7: "3.12"}
"""The system's Python, for which NVIDIA's wheels are built."""

LIBRARIES = ("/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/local/lib", "/usr/local/tensorrt/lib")

HOT = 80.0
"""Degrees Celsius; boards slow down a little above."""


def check_jetson(machine: Machine) -> Iterator[Check]:
    """Model, L4T and JetPack, TensorRT, power mode and clocks of a Jetson; nothing elsewhere."""
    if not machine.jetson:
        return
    told = sensors.jetson(machine.root)
    linux = told["l4t"]
    major = JETPACK.get(int(linux.partition(".")[0])) if linux else None
    jetpack = told["jetpack"] or str(major or "")
    text = told["model"] or "Jetson"
    text += f", L4T {linux}" if linux else ", L4T not told (in a container?)"
    text += f", JetPack {jetpack}" if jetpack else ""
    details = {"model": told["model"], "l4t": linux or None, "jetpack": jetpack or None}
    if major and major < 6:
        advice = (
            f"JetPack {major} has Python {PYTHON_OF[major]} and no GPU wheel for 3.11: the CPU remains; docs/jetson.md"
        )
        yield Check("Jetson", "warn", text, advice, details)
    else:
        yield Check("Jetson", "ok", text, "", details)
    yield _tensorrt(machine)
    yield _power(machine)


def _tensorrt(machine: Machine) -> Check:
    pattern = re.compile(r"libnvinfer\.so\.(\d+(?:\.\d+)+)$")
    files = [file.name for folder in LIBRARIES for file in machine.path(folder).glob("libnvinfer.so.*")]
    versions = sorted({found[1] for name in files if (found := pattern.match(name))})
    if not files:
        advice = "sudo apt install nvidia-jetpack; in a container start it with --runtime nvidia"
        return Check(
            "TensorRT", "warn", "libnvinfer is not installed: int8 cannot use the GPU", advice, {"versions": []}
        )
    return Check("TensorRT", "ok", f"libnvinfer {', '.join(versions) or 'found'}", "", {"versions": versions})


def _power(machine: Machine) -> Check:
    mode = sensors.power_mode(machine.root, machine.output)
    least, most = (sensors.clocks(machine.root).get(key) for key in ("min_mhz", "max_mhz"))
    fixed = least is not None and least == most
    details = {"mode": mode or None, "clocks_fixed": fixed}
    if not mode:
        return Check("power mode", "info", "not told", "ask for it: sudo nvpmodel -q", details)
    advice = []
    if not mode.upper().startswith("MAXN"):
        advice.append(
            "a mode with more power is faster: sudo nvpmodel -q --verbose lists them, sudo nvpmodel -m ID takes one"
        )
    if not fixed:
        advice.append("before you measure: sudo jetson_clocks")
    text = f"{mode}, clocks {'fixed' if fixed else 'follow the load'}"
    return Check("power mode", "info", text, "; ".join(advice), details)


def check_pi(machine: Machine) -> Iterator[Check]:
    """Model, system and throttling of a Raspberry Pi; nothing elsewhere."""
    if "raspberry pi" not in machine.board.lower():
        return
    details = {"model": machine.board, "bits": machine.bits}
    if machine.bits < 64:
        advice = "install Raspberry Pi OS (64-bit): onnxruntime has no wheel for 32 bits; docs/raspberry-pi.md"
        yield Check("Raspberry Pi", "problem", f"{machine.board}, a 32-bit system", advice, details)
    else:
        yield Check("Raspberry Pi", "ok", machine.board, "", details)
    told = machine.read("/sys/devices/platform/soc/soc:firmware/get_throttled")
    if not told:
        code, told = machine.call(["vcgencmd", "get_throttled"])
        told = told.partition("=")[2] if code == 0 else ""
    try:
        bits = int(told, 16)
    except ValueError:
        yield Check("power supply", "info", "not told", "ask for it: vcgencmd get_throttled")
        return
    now = [word for bit, word in PI_FLAGS.items() if bits >> bit & 1]
    before = [word for bit, word in PI_FLAGS.items() if bits >> (bit + 16) & 1 and word not in now]
    details = {"throttled": hex(bits), "now": now, "since_start": before}
    if not now and not before:
        yield Check("power supply", "ok", "never throttled since the start", "", details)
        return
    words = [*([f"now {', '.join(now)}"] if now else []), *([f"since the start {', '.join(before)}"] if before else [])]
    ways = []
    if "under-voltage" in (*now, *before):
        ways.append("use the official power supply and a short cable")
    if set(now + before) - {"under-voltage"}:
        ways.append("cool the board")
    yield Check("power supply", "warn", "; ".join(words), " and ".join(ways), details)


def check_temperature(machine: Machine) -> Iterator[Check]:
    """The hottest sensor; nothing where there is none."""
    found = sensors.temperatures(machine.root)
    if not found:
        return
    name, hottest = max(found.items(), key=lambda pair: pair[1])
    details = {"celsius": found}
    text = f"{hottest:.0f} °C ({name})"
    if hottest >= HOT:
        yield Check("temperature", "warn", text, "cool it: the processor slows down at a few degrees more", details)
    else:
        yield Check("temperature", "ok", text, "", details)


def check_container(machine: Machine) -> Iterator[Check]:
    """Whether this is a container, which hides cameras and GPUs unless told otherwise; nothing elsewhere."""
    kind = ""
    if machine.path("/.dockerenv").exists():
        kind = "Docker"
    elif machine.path("/run/.containerenv").exists():
        kind = "Podman"
    elif name := machine.environ.get("container", ""):
        kind = name
    elif found := re.search(r"docker|kubepods|lxc|containerd", machine.read("/proc/1/cgroup")):
        kind = found[0]
    if kind:
        gpu = "--runtime nvidia" if machine.jetson else "--gpus all"
        advice = f"what it may use is set from outside: --cpus, --memory, {gpu}, --device /dev/video0"
        yield Check("container", "info", kind, advice, {"kind": kind})


def check_gpu(machine: Machine) -> Iterator[Check]:
    """NVIDIA GPUs that nvidia-smi sees; nothing on a Jetson, whose GPU is part of the board."""
    if machine.jetson:
        return
    fields = "name,driver_version,memory.total,compute_cap"
    code, told = machine.call(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"])
    if code == 0 and told:
        rows = [[word.strip() for word in line.split(",")] for line in told.splitlines()]
        named = [dict(zip(("name", "driver", "memory", "compute_capability"), row, strict=False)) for row in rows]
        text = "; ".join(
            f"{row['name']}, {row.get('memory', '?')}, compute capability {row.get('compute_capability', '?')}, driver "
            f"{row.get('driver', '?')}"
            for row in named
        )
        yield Check("GPU", "ok", text, "", {"gpus": named})
    elif code >= 0:
        advice = "reinstall NVIDIA's driver, and restart after a driver update"
        yield Check("GPU", "warn", f"nvidia-smi fails: {told.splitlines()[0] if told else f'exit code {code}'}", advice)
    else:
        yield Check("GPU", "info", "no NVIDIA GPU seen", "", {"gpus": []})
