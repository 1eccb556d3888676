import io
import sys
import tarfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kdedge.data.shard_stream import ShardImage, read_shard
from kdedge.data.shards import write_shard
from kdedge.errors import DataError, ModelError

MEMBERS = [
    ("0001.jpg", b"a" * 700),
    ("0001.json", b"{}"),
    ("0001.txt", b"text"),
    ("0002.cls", b"3"),
    ("0002.PNG", b"b" * 512),
    ("0002.jpg", b"second of its sample"),
    ("._0003.jpg", b"resource fork"),
    ("README", b"no ending"),
    ("d.1/0003.left.webp", b"c" * 1300),
    ("0004.json", b"x" * 600),
]
IMAGES = [("0001", b"a" * 700), ("0002", b"b" * 512), ("d.1/0003", b"c" * 1300)]
END = sum(512 + -(-len(data) // 512) * 512 for _, data in MEMBERS)
"""Where the end-of-archive mark of the shard stands."""


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "7.tar"
    write_shard(path, MEMBERS)
    return path


def test_images_and_nothing_else(shard):
    assert list(read_shard(str(shard))) == [ShardImage(key, data, i) for i, (key, data) in enumerate(IMAGES)]
    assert shard.read_bytes()[END : END + 1024] == bytes(1024)


def test_as_webdataset_reads_it(shard):
    tariterators = pytest.importorskip("webdataset.tariterators")
    samples = tariterators.group_by_keys(tariterators.tar_file_expander([{"url": "7", "stream": shard.open("rb")}]))
    kinds = ("jpg", "png", "left.webp")
    expected = [
        (sample["__key__"], {sample[kind] for kind in kinds if kind in sample})
        for sample in samples
        if any(kind in sample for kind in kinds)
    ]
    found = [(image.key, image.data) for image in read_shard(str(shard))]
    assert [key for key, _ in found] == [key for key, _ in expected]
    assert all(data in datas for (_, data), (_, datas) in zip(found, expected, strict=True))


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_links(tmp_path, format):
    key = "図/" + "x" * 300
    with tarfile.open(tmp_path / "a.tar", "w", format=format) as archive:
        for name, kind in [
            ("link.jpg", tarfile.SYMTYPE),
            ("folder.jpg", tarfile.DIRTYPE),
            (f"{key}.jpg", tarfile.REGTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, 5 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"image"))
    assert list(read_shard(str(tmp_path / "a.tar"))) == [ShardImage(key, b"image", 0)]
    whole = (tmp_path / "a.tar").read_bytes()
    ends = [len(whole.rstrip(b"\0")) // 512 * 512 - 512 * i for i in range(4)]  # of the data, its header, the name
    for end in ends:
        (tmp_path / "a.tar").write_bytes(whole[:end])
        with pytest.raises(DataError):
            list(read_shard(str(tmp_path / "a.tar")))


def read_into(images, shard):
    for image in read_shard(str(shard)):
        images.append(image)


def read_until_error(path):
    """The images before the error, and what it says."""
    images = []
    with pytest.raises(DataError, match=r"7\.tar: the shard cannot be read to its end") as caught:
        read_into(images, path)
    assert f"({len(images)} images were read before)" in str(caught.value)
    assert [(image.key, image.data) for image in images] == IMAGES[: len(images)]
    return images, str(caught.value)


def test_no_cut_goes_unnoticed(shard):
    whole = shard.read_bytes()
    counts = []
    for end in range(0, END + 512, 61):
        shard.write_bytes(whole[:end])
        counts.append(len(read_until_error(shard)[0]))
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}
    shard.write_bytes(whole[: END + 512])  # one block of the mark is enough
    assert len(list(read_shard(str(shard)))) == 3


@pytest.mark.parametrize(
    ("end", "images", "reason"),
    [
        (0, 0, "the file is empty"),
        (512 + 300, 0, "unexpected end of data"),
        (512 + 1024, 1, "the end-of-archive mark is missing at byte 1,536"),
        (512 + 1024 + 100, 1, "a header is cut off at byte 1,536"),
    ],
)
def test_cuts_are_explained(shard, end, images, reason):
    shard.write_bytes(shard.read_bytes()[:end])
    found, message = read_until_error(shard)
    assert len(found) == images
    assert reason in message


@pytest.mark.parametrize(("header", "images"), [(0, 0), (1536, 1), (2560, 1)])
def test_no_damaged_header_goes_unnoticed(shard, header, images):
    whole = shard.read_bytes()
    for at in [*range(0, 148, 7), *range(148, 154), *range(156, 512, 17)]:  # 154, 155 end the checksum, mean nothing
        damaged = bytearray(whole)
        damaged[header + at] ^= 0x41
        shard.write_bytes(damaged)
        found, message = read_until_error(shard)
        assert len(found) == images
        assert f"header{' is damaged' if header else ''} at byte {header:,} " in message


def test_two_joined_into_one(shard):
    shard.write_bytes(shard.read_bytes() * 2)
    assert "joined" in read_until_error(shard)[1]


def test_other_files(tmp_path):
    for content in (b"x" * 5000, b"short", b"\x1f\x8b" * 400):
        (tmp_path / "7.tar").write_bytes(content)
        found, message = read_until_error(tmp_path / "7.tar")
        assert not found
        assert "header" in message
    for path, reason in ((tmp_path / "8.tar", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(DataError, match=reason):
            list(read_shard(str(path)))


def test_a_handler_may_go_on(shard):
    shard.write_bytes(shard.read_bytes()[:2000])
    errors = []
    assert len(list(read_shard(str(shard), lambda error: not errors.append(error)))) == 1
    assert "cut off" in str(errors[0])
    with pytest.raises(DataError):
        list(read_shard(str(shard), lambda error: False))


@pytest.fixture(scope="module")
def webdataset():
    return pytest.importorskip("webdataset")


@pytest.mark.usefixtures("webdataset")
def test_pipes(shard):
    assert len(list(read_shard(f"pipe:cat {shard}"))) == 3
    cases = [("false", 1), ("exit 3", 3), (f"cat {shard}; exit 4", 4), (f"head -c 2000 {shard}; exit 5", 5)]
    for command, status in cases:
        found = []
        with pytest.raises(DataError, match=f"exit status {status} ") as caught:
            read_into(found, f"pipe:{command}")
        # How many there are depends on when the command's end is noticed.
        assert f"({len(found)} images were read before)" in str(caught.value)
        assert str(caught.value).startswith(f"pipe:{command}: ")
    with pytest.raises(DataError, match="cut off"):
        list(read_shard(f"pipe:head -c 2000 {shard}"))


@pytest.mark.usefixtures("webdataset")
def test_a_pipe_that_is_left_is_stopped(shard):
    begin = time.monotonic()
    images = read_shard(f"pipe:cat {shard}; exec sleep 60")
    assert next(images).key == "0001"
    images.close()
    assert time.monotonic() - begin < 30


@pytest.mark.usefixtures("webdataset")
def test_http(shard, monkeypatch):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            if "cut" not in self.path:
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", str(shard.stat().st_size))
            self.end_headers()
            return self.wfile.write(shard.read_bytes()[:1000])

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(shard.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        assert [image.key for image in read_shard(f"{base}/7.tar")] == [key for key, _ in IMAGES]
        with pytest.raises(DataError, match=r"exit status 22 \(an HTTP error"):
            list(read_shard(f"{base}/8.tar"))
        with pytest.raises(DataError, match="transfer was cut off"):
            list(read_shard(f"{base}/cut.tar"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.usefixtures("webdataset")
def test_unknown_urls(monkeypatch):
    with pytest.raises(DataError, match="pipe:COMMAND"):
        list(read_shard("s3://bucket/0.tar"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match="program curl"):
        list(read_shard("https://host/0.tar"))
    monkeypatch.setitem(sys.modules, "webdataset.gopen", None)
    with pytest.raises(ModelError, match="pip install"):
        list(read_shard("https://host/0.tar"))
