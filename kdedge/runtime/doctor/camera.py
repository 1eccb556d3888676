"""Cameras: which there are, who may use them, and whether a picture comes out."""

import os
from collections.abc import Iterator

from kdedge.runtime.doctor.attempt import attempt
from kdedge.runtime.doctor.check import Check, Machine

__all__ = ["check_cameras", "grab"]

PATIENCE = 30.0
"""Seconds until a camera has to give a frame."""

DARK = 4.0
"""Mean of a frame, 0-255, below which nothing can be seen."""

NO_CAMERA = ("codec", "isp", "hevc", "stateless", "metadata", "m2m", "unicam", "rp1-cfe", "pispbe")
"""Parts of names of video devices that are no cameras OpenCV could open: codecs, and the raw ends of a Raspberry Pi's."""


def check_cameras(machine: Machine) -> Iterator[Check]:
    """Video devices of Linux and whether this user may open them; elsewhere OpenCV alone can tell (``--camera N``)."""
    if machine.system != "Linux":
        yield Check("cameras", "info", f"not listed on {machine.system}", "try one: kdedge doctor --camera 0")
        return
    devices = sorted(machine.path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    found = [(device, machine.read(f"/sys/class/video4linux/{device.name}/name")) for device in devices]
    cameras = [(device, name) for device, name in found if not any(word in name.lower() for word in NO_CAMERA)]
    details = {"devices": {f"/dev/{device.name}": name for device, name in found}}
    pi = "raspberry pi" in machine.board.lower()
    if not cameras:
        text = f"none ({len(found)} video devices are codecs)" if found else "none"
        advice = ""
        if pi:
            advice = "a ribbon-cable camera is seen by rpicam-hello --list-cameras; OpenCV needs a bridge: docs/raspberry-pi.md"
        yield Check("cameras", "info", text, advice, details)
        return
    text = ", ".join(f"/dev/{device.name}{f' ({name})' if name else ''}" for device, name in cameras)
    closed = [device for device, _ in cameras if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        names = ", ".join(f"/dev/{device.name}" for device in closed)
        advice = "sudo usermod -aG video $USER, then log out and in again"
        yield Check("cameras", "warn", f"{text}; this user may not open {names}", advice, details)
    else:
        yield Check("cameras", "ok", text, "", details)


def grab(source: str, machine: Machine) -> Check:
    """Take a few frames of one camera.

    Args:
        source: its number.
        machine: where.
    """
    title = f"camera {source}"
    outcome = attempt("camera", source, timeout=PATIENCE, environ=machine.environ)
    if outcome.error:
        return Check(
            title, "problem", outcome.error, "unplug it and plug it in again; look at dmesg", {"error": outcome.error}
        )
    value = outcome.value
    if not value["opened"]:
        return Check(title, "problem", "OpenCV cannot open it", _why_closed(source, machine), value)
    if not value["frames"]:
        text = f"opens ({value['backend']}), but gives no frame"
        advice = "end other programs that use it; on a bus with little power use another port or a powered hub"
        return Check(title, "problem", text, advice, value)
    rate = value["frames"] / value["seconds"] if value["seconds"] else 0.0
    text = f"{value['width']} x {value['height']}, {value['backend']}, {value['frames']} frames, {rate:.0f} a second at first"
    if value["mean"] < DARK:
        return Check(
            title, "warn", f"{text}; they are black", "take the cap off, and let it get used to the light", value
        )
    return Check(title, "ok", text, "", value)


def _why_closed(source: str, machine: Machine) -> str:
    device = machine.path(f"/dev/video{source}")
    if machine.system == "Linux":
        if not device.exists():
            if "raspberry pi" in machine.board.lower():
                return "OpenCV does not see ribbon-cable cameras by itself: docs/raspberry-pi.md"
            return (
                f"there is no /dev/video{source}; plug it in, or hand it to the container: --device /dev/video{source}"
            )
        if not os.access(device, os.R_OK | os.W_OK):
            return "sudo usermod -aG video $USER, then log out and in again"
        return "another program may hold it (fuser -v says which), or it is the second, metadata device: try another number"
    if machine.system == "Darwin":
        return "allow the terminal to use the camera: System Settings, Privacy & Security, Camera"
    return "allow desktop programs to use the camera: Settings, Privacy, Camera"
