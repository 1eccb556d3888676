"""Lists of class names, right and wrong."""

from pathlib import Path

import pytest

from kdedge.data.label_list import read_labels
from kdedge.errors import DataError


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("ant\nbee\n", ("ant", "bee")),
        ("\ufeffant\r\n bee\t\r\n\r\n\n", ("ant", "bee")),
        ("Grüner Knollenblätterpilz\n犬\n", ("Grüner Knollenblätterpilz", "犬")),
        ("a\u2028b\nc", ("a\u2028b", "c")),
        ('["ant", "bee, the"]', ("ant", "bee, the")),
        (' [\n "ant",\n " bee"\n]\n', ("ant", "bee")),
        ("one", ("one",)),
    ],
)
def test_lists(tmp_path: Path, text: str, labels: tuple[str, ...]) -> None:
    path = tmp_path / "labels"
    path.write_bytes(text.encode())
    assert read_labels(path) == read_labels(str(path)) == labels


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no labels"),
        (b" \n\n", "no labels"),
        (b"[]", "no labels"),
        (b"ant\n\nbee\n", "label 2 of 3 is empty"),
        (b'["ant", " "]', "label 2 of 2 is empty"),
        (b"ant\nbee\nant \n", "labels 1 and 3 are both 'ant'"),
        (b'["ant", "ant"]', "labels 1 and 2 are both 'ant'"),
        (b'["ant", 2]', "a JSON list of strings"),
        (b'{"0": "ant"}', "a JSON list of strings"),
        (b'["ant"', "looks like JSON"),
        (b"caf\xe9\n", "not UTF-8"),
    ],
)
def test_what_is_no_list(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(data)
    with pytest.raises(DataError, match=said) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(DataError, match="cannot be read as a list of labels"):
            read_labels(path)
