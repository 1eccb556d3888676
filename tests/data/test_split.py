import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdedge.data.folder import LabelledImages, class_folders
from kdedge.data.manifest import read_manifest
from kdedge.data.split import hold_out, plain_names, split_per_class, take_per_class, write_manifest, write_split
from kdedge.errors import DataError


def labelled(sizes):
    names = tuple(f"class {number}" for number in range(len(sizes)))
    pairs = [(Path("root", names[c], f"{i}.png"), c) for c, size in enumerate(sizes) for i in range(size)]
    return LabelledImages(tuple(p for p, _ in pairs), tuple(c for _, c in pairs), names)


@given(
    st.lists(st.integers(2, 12), min_size=2, max_size=6).flatmap(
        lambda sizes: st.tuples(st.just(sizes), st.integers(1, min(sizes) - 1))
    ),
    st.integers(0, 2**40),
    st.randoms(),
)
def test_split(sizes_and_k, seed, random):
    sizes, k = sizes_and_k
    data = labelled(sizes)
    train, test = split_per_class(data, k, seed)
    assert sorted([*train, *test]) == list(range(len(data)))
    assert np.bincount(np.take(data.labels, train), minlength=len(sizes)).tolist() == [k] * len(sizes)

    order = list(range(len(data)))
    random.shuffle(order)
    mixed = LabelledImages(tuple(data.paths[i] for i in order), tuple(data.labels[i] for i in order), data.classes)
    again, _ = split_per_class(mixed, k, seed)
    assert {mixed.paths[i] for i in again} == {data.paths[i] for i in train}


def test_seeds_differ_and_classes_do_not_draw_alike():
    data = labelled([40, 40])
    draws = {tuple(split_per_class(data, 5, seed)[0]) for seed in range(20)}
    assert len(draws) == 20
    train = split_per_class(data, 5, 0)[0]
    assert set(train[:5]) != set(train[5:] - 40)


@given(st.integers(1, 9), st.integers(0, 9))
def test_the_short_class_is_named(k, size):
    if size > k:
        return
    with pytest.raises(DataError, match="'class 1'") as caught:
        split_per_class(labelled([20, size]), k, 0)
    assert str(size) in str(caught.value)


@pytest.mark.parametrize(("k", "seed"), [(0, 0), (1, -1)])
def test_mistakes_are_refused(k, seed):
    with pytest.raises(DataError):
        split_per_class(labelled([3, 3]), k, seed)


@given(st.integers(0, 300), st.floats(0, 0.99), st.integers(0, 1000))
def test_hold_out(count, share, seed):
    keep, aside = hold_out(count, share, seed)
    assert sorted([*keep, *aside]) == list(range(count))
    assert abs(len(aside) - count * share) <= 1
    assert count == 0 or len(keep) > 0
    assert (keep == hold_out(count, share, seed)[0]).all()


def test_hold_out_refuses_everything():
    with pytest.raises(DataError, match="share"):
        hold_out(10, 1.0, 0)


@pytest.mark.parametrize("link", [False, True])
def test_write_split(tmp_path, write_image, link):
    for number, name in enumerate(("Zoë, A", "bob")):
        for image in range(3):
            write_image(f"in/{name}/{image % 2}/same.png" if image < 2 else f"in/{name}/c.png", 10 * number + image)
    data = class_folders(tmp_path / "in")
    train, test = split_per_class(data, 2, 1)
    out = tmp_path / "out"
    written = write_split(data, train, test, out, link=link)
    with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(out / row["path"]).read_bytes() for row in rows] == [data.paths[i].read_bytes() for i in [*train, *test]]
    assert [row["split"] for row in rows] == ["train"] * 4 + ["test"] * 2
    assert [data.classes[int(row["label"])] for row in rows] == [row["class_name"] for row in rows]
    assert [out / row["path"] for row in rows] == list(written.paths)
    assert class_folders(out / "train").counts() == [2, 2]
    assert (written.paths[0].stat().st_nlink == 2) == link
    with pytest.raises(DataError, match="not empty"):
        write_split(data, train, test, out)


def test_a_failed_split_leaves_nothing(tmp_path):
    data = labelled([2, 2])  # files that do not exist
    with pytest.raises(DataError, match="cannot be copied"):
        write_split(data, *split_per_class(data, 1, 0), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_validation_comes_from_the_training_draw_and_changes_nothing_else():
    data = labelled([20, 15, 9])
    drawn, test = split_per_class(data, 8, 3)
    train, val = take_per_class(data, drawn, 2, 3)
    assert sorted([*train, *val]) == drawn.tolist()
    assert not set(val) & set(test)
    assert np.bincount(np.take(data.labels, val)).tolist() == [2, 2, 2]
    assert take_per_class(data, drawn, 2, 3)[1].tolist() == val.tolist()
    assert take_per_class(data, drawn, 2, 4)[1].tolist() != val.tolist()
    assert take_per_class(data, drawn, 0, 3)[1].tolist() == []
    with pytest.raises(DataError, match="8 validation images a class leave none of 8"):
        take_per_class(data, drawn, 8, 3)


def test_pins_folders():
    data = LabelledImages((Path("a"), Path("b")), (0, 1), ("pins_Adriana Lima", "pins_Zac Efron"))
    assert plain_names(data).classes == ("Adriana Lima", "Zac Efron")
    mixed = LabelledImages(data.paths, data.labels, ("pins_Adriana Lima", "others"))
    assert plain_names(mixed) is mixed
    twice = LabelledImages(data.paths, data.labels, ("pins_A", "pins_ A"))
    with pytest.raises(DataError, match="two folders stand for the class 'A'"):
        plain_names(twice)


def test_a_manifest_names_images_where_they_are(tmp_path):
    for name in ("a", "b"):
        for number in range(4):
            path = tmp_path / "all" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{name}{number}".encode())
    data = class_folders(tmp_path / "all")
    drawn, test = split_per_class(data, 3, 0)
    train, val = take_per_class(data, drawn, 1, 0)
    near, far = tmp_path / "near.csv", tmp_path / "lists" / "far.csv"
    for path in (near, far):
        write_manifest(data, train, test, path, val=val)
    names = [row["path"] for row in csv.DictReader(near.open())]
    assert all(name.startswith("all/") for name in names)
    assert all(Path(row["path"]).is_absolute() for row in csv.DictReader(far.open()))
    found = read_manifest(near)
    assert [len(part) for part in (found.train, found.val, found.test)] == [4, 2, 2]
    assert read_manifest(far).val.labels == found.val.labels
    with pytest.raises(DataError, match="exists"):
        write_manifest(data, train, test, near)


def test_the_validation_part_is_written_too(tmp_path):
    for name in ("a", "b"):
        for number in range(4):
            path = tmp_path / "all" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{name}{number}".encode())
    data = class_folders(tmp_path / "all")
    drawn, test = split_per_class(data, 3, 0)
    train, val = take_per_class(data, drawn, 1, 0)
    write_split(data, train, test, tmp_path / "out", val=val)
    assert {path.parent.parent.name for path in (tmp_path / "out").rglob("*.png")} == {"train", "val", "test"}
    found = read_manifest(tmp_path / "out" / "manifest.csv")
    assert [len(part) for part in (found.train, found.val, found.test)] == [4, 2, 2]
