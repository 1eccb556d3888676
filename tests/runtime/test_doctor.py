"""The whole examination, on this machine and on ones that are not here."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from kdedge.runtime.doctor import camera as doctor_camera
from kdedge.runtime.doctor import model as doctor_model
from kdedge.runtime.doctor import python as doctor_python
from kdedge.runtime.doctor import run as doctor
from kdedge.runtime.doctor.attempt import Outcome, attempt
from kdedge.runtime.doctor.run import WIDEST, Machine, examine
from tests.conftest import color_card, environment, write_color_model
from tests.runtime.machines import JETSON, PI, machine


def test_this_machine(color_model: Path) -> None:
    checks = {check.name: check for check in examine(replace(Machine(), environ=environment()), model=str(color_model))}
    for name in ("Python", "NumPy", "OpenCV", "onnxruntime", "provider cpu", "cache"):
        assert checks[name].status == "ok", checks[name]
    assert checks["model"].details["label"] in ("blue", "green", "red")
    assert checks["model"].details["p50_ms"] > 0
    assert checks["provider cpu"].details["right"] is True
    json.dumps([check.to_dict() for check in checks.values()], allow_nan=False)


@pytest.mark.parametrize("files", [PI, JETSON, {}])
def test_names_fit_their_column_and_nothing_is_tried_without_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    def never(*words: object, **more: object) -> Outcome:
        raise AssertionError("a process was started")

    for module in (doctor_python, doctor_camera, doctor_model):
        monkeypatch.setattr(module, "attempt", never)
    checks = list(examine(machine(tmp_path, files), probe=False))
    assert all(len(check.name) <= WIDEST for check in checks)
    assert not any("itself failed" in check.found for check in checks)
    assert {"NumPy", "OpenCV", "onnxruntime"} <= {check.name for check in checks}


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faint(machine: Machine) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(doctor.doctor_memory, "check_memory", faint)
    checks = {check.name: check for check in examine(machine(tmp_path), probe=False)}
    assert (checks["memory"].status, "ZeroDivisionError: oh" in checks["memory"].found) == ("warn", True)
    assert "cameras" in checks


def test_a_broken_onnxruntime_keeps_the_model_from_being_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"version": "9.0", "file": "", "works": True, "video": {"ffmpeg": True, "v4l2": True, "gstreamer": False}}

    def fake(kind: str, *arguments: str, **more: object) -> Outcome:
        return Outcome({}, "ended by SIGSEGV: a crash inside a library") if kind == "onnxruntime" else Outcome(good)

    monkeypatch.setattr(doctor_python, "attempt", fake)
    checks = {check.name: check for check in examine(machine(tmp_path))}
    assert checks["onnxruntime"].status == "problem"
    assert "SIGSEGV" in checks["onnxruntime"].found
    assert "model" not in checks


@pytest.mark.parametrize(
    ("changes", "vnni", "status", "words"),
    [
        ({"precision": "fp32", "target": "jetson"}, None, "ok", "takes"),
        ({"precision": "int8", "target": "jetson"}, None, "warn", "made for TensorRT"),
        ({"precision": "int8", "target": "x86"}, False, "warn", "saturate"),
        ({"precision": "int8", "target": "x86", "quantization": {"reduce_range": True}}, False, "ok", "takes"),
        ({"precision": "int8", "target": "x86"}, True, "ok", "takes"),
        ({"precision": "int8", "target": "arm64"}, None, "info", "it was made for arm64"),
    ],
)
def test_a_model_for_another_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    vnni: bool | None,
    status: str,
    words: str,
) -> None:
    monkeypatch.setattr(doctor_model.platform, "machine", lambda: "x86_64")
    file = write_color_model(tmp_path / "student.onnx", color_card(**changes))
    found = doctor_model.check_model(str(file), replace(Machine(), environ=environment()), vnni)
    assert found.status == status
    assert words in found.found


def test_models_that_do_not_run(tmp_path: Path) -> None:
    here = replace(Machine(), environ=environment())
    assert doctor_model.check_model("nosuch", here).status == "problem"
    (tmp_path / "cut.onnx").write_bytes(b"no model")
    found = doctor_model.check_model(str(tmp_path / "cut.onnx"), here)
    assert found.status == "problem"
    assert "onnxruntime" in found.found


def test_cameras_are_those_that_opencv_can_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pi,) = doctor_camera.check_cameras(machine(tmp_path / "pi", PI))
    assert (pi.status, pi.found) == ("info", "none (2 video devices are codecs)")
    assert "rpicam-hello" in pi.advice
    files = {"dev/video0": "", "sys/class/video4linux/video0/name": "HD Pro Webcam C920\n", "dev/video2": ""}
    (usb,) = doctor_camera.check_cameras(machine(tmp_path / "usb", files))
    assert (usb.status, usb.found) == ("ok", "/dev/video0 (HD Pro Webcam C920), /dev/video2")
    monkeypatch.setattr(doctor_camera.os, "access", lambda path, mode: False)
    (closed,) = doctor_camera.check_cameras(machine(tmp_path / "usb"))
    assert closed.status == "warn"
    assert "usermod -aG video" in closed.advice
    (mac,) = doctor_camera.check_cameras(machine(tmp_path, system="Darwin"))
    assert mac.status == "info"


@pytest.mark.parametrize(
    ("value", "status", "words"),
    [
        ({"opened": False, "frames": 0}, "problem", "cannot open"),
        ({"opened": True, "frames": 0, "backend": "V4L2"}, "problem", "gives no frame"),
        (
            {"opened": True, "frames": 5, "backend": "V4L2", "width": 640, "height": 480, "mean": 90.0, "seconds": 0.5},
            "ok",
            "640 x 480, V4L2, 5 frames, 10 a second",
        ),
        (
            {"opened": True, "frames": 5, "backend": "V4L2", "width": 640, "height": 480, "mean": 0.5, "seconds": 0.5},
            "warn",
            "black",
        ),
    ],
)
def test_a_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: dict[str, object], status: str, words: str
) -> None:
    monkeypatch.setattr(doctor_camera, "attempt", lambda *words, **more: Outcome(value))
    found = doctor_camera.grab("0", machine(tmp_path))
    assert found.status == status
    assert words in found.found


def test_why_a_camera_stays_closed(tmp_path: Path) -> None:
    why = doctor_camera._why_closed
    assert "there is no /dev/video7" in why("7", machine(tmp_path))
    assert "raspberry-pi.md" in why("7", machine(tmp_path / "pi", PI))
    assert "another program" in why("0", machine(tmp_path / "usb", {"dev/video0": ""}))
    assert "System Settings" in why("0", machine(tmp_path, system="Darwin"))


def test_frames_are_really_read(tmp_path: Path) -> None:
    file = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(8):
        writer.write(np.full((48, 64, 3), 100, np.uint8))
    writer.release()
    outcome = attempt("camera", str(file), timeout=60, environ=environment())
    assert (outcome.value["frames"], outcome.value["width"], outcome.value["height"]) == (5, 64, 48)
    assert abs(outcome.value["mean"] - 100) < 3
