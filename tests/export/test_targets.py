import pytest

from kdedge.errors import ExportError
from kdedge.export import targets
from kdedge.export.targets import TARGETS, has_vnni, native_target, target_for

WITH = "processor\t: 0\nflags\t\t: fpu sse avx2 avx512_vnni\n"
WITHOUT = "processor\t: 0\nflags\t\t: fpu sse avx2 avx512f\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd\n"


def test_vnni_is_read_from_the_flags() -> None:
    assert has_vnni(WITH) is True
    assert has_vnni(WITH.replace("avx512_vnni", "avx_vnni")) is True
    assert has_vnni(WITHOUT) is False
    assert has_vnni(ARM) is None


def test_range_is_reduced_only_without_vnni() -> None:
    assert not target_for("x86", WITH).reduce_range
    assert target_for("x86", WITH).note == ""
    for cpuinfo in (WITHOUT, ARM):
        assert target_for("x86", cpuinfo).reduce_range
        assert "7 bits" in target_for("x86", cpuinfo).note
    assert (target_for("x86", WITH).activations, target_for("x86", WITH).weights) == ("uint8", "int8")


def test_vnni_can_be_said_for_another_machine() -> None:
    assert target_for("x86", WITH, vnni=False).reduce_range
    assert "--no-vnni was given" in target_for("x86", WITH, vnni=False).note
    assert not target_for("x86", WITHOUT, vnni=True).reduce_range
    with pytest.raises(ExportError, match="says nothing about target arm64"):
        target_for("arm64", vnni=True)


def test_profiles_are_those_of_the_specification() -> None:
    kinds = {name: (target.activations, target.symmetric, target.batch) for name, target in TARGETS.items()}
    assert kinds == {
        "x86": ("uint8", False, 0),
        "arm64": ("int8", False, 0),
        "jetson": ("int8", True, 1),
        "web": ("uint8", False, 0),
    }
    jetson = TARGETS["jetson"]
    assert jetson.weights_as_float
    assert not jetson.quantize_bias
    assert (jetson.opset, jetson.ir_version, jetson.gpu, jetson.on_cpu) == (17, 8, True, False)
    assert all(target.opset <= 18 and target.ir_version <= 9 for target in TARGETS.values())


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", "x86"), ("AMD64", "x86"), ("aarch64", "arm64"), ("arm64", "arm64")]
)
def test_auto_is_this_processor(machine: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.platform, "machine", lambda: machine)
    assert native_target() == name
    assert target_for("auto").name == name
    assert {each for each, target in TARGETS.items() if target.runs_here} == {name}


def test_format_can_be_chosen_within_bounds() -> None:
    target = target_for("arm64", opset=14, ir_version=7, batch=4)
    assert (target.opset, target.ir_version, target.batch) == (14, 7, 4)
    with pytest.raises(ExportError, match="opset 13 is not possible; choose 14 to 21"):
        target_for("x86", opset=13)
    with pytest.raises(ExportError, match="IR version 99 is not possible"):
        target_for("x86", ir_version=99)
    with pytest.raises(ExportError, match="batch is -1"):
        target_for("x86", batch=-1)


def test_unknown_target_names_the_known() -> None:
    with pytest.raises(ExportError, match="'phone' is not known; choose one of x86, arm64, jetson, web or auto"):
        target_for("phone")
