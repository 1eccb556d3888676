import pytest

from kdedge.errors import ExportError
from kdedge.export.targets import has_vnni, target_for

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


def test_unknown_target_names_the_known() -> None:
    with pytest.raises(ExportError, match="'jetson' is not supported; this version exports for x86 only"):
        target_for("jetson")
