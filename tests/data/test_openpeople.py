import zipfile

import pytest

from kdedge.data import openpeople
from kdedge.errors import DataError


def test_every_person_has_all_faces_and_no_background(people, finder, tmp_path):
    data = openpeople.write_faces(people, tmp_path, finder)
    assert data.classes == tuple(f"P{number:03d}" for number in range(1, 11))
    assert len(data) == pytest.approx(263, abs=4)
    sheets = [path for path in data.paths if path.name.startswith("emotions_sheet")]
    assert len(sheets) == pytest.approx(160, abs=2)
    selfies = [path.name for path in data.paths if path.parent.name == "P010" and "selfie" in path.name]
    assert selfies == ["amateur_selfie-00.png"]


def test_another_wheel_is_refused(finder, tmp_path):
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("other/data.jpg", b"")
    with pytest.raises(DataError, match="openpeople"):
        list(openpeople.crops(tmp_path / "other.whl", finder))
