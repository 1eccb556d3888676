"""``kdedge serve`` at full load from many clients, then thousands of malformed uploads: answers, latency, memory.

The clients are a process of their own on the same machine, so they take part of what is measured. The peer is a bare loop
(cv2.imdecode, resize, session.run) over the same images in one process, without HTTP. Linux.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.common import RESULTS, all_conditions, conditions_line, markdown_table, slug, write_results
from benchmarks.serve.client import ask
from benchmarks.serve.malformed import malformed
from benchmarks.serve.process import Served, resident_mb, served, watched
from kdedge.card import ModelCard
from kdedge.cli.progress import progress_bar
from kdedge.errors import KdedgeError
from kdedge.runtime.models import default_model
from kdedge.runtime.server.process import quiet_decoders
from kdedge.runtime.session import default_threads, open_session

SIZES = ((640, 480),) * 5 + ((320, 240), (1280, 960), (1920, 1080))
"""Width and height of the JPEGs that are made where none are given."""

EVERY = 5.0
"""Seconds between two looks at the memory."""

FIRST = 60.0
"""Seconds after which the memory must not grow; a tenth of the whole in a shorter run."""

AT_ONCE = 16
"""Malformed uploads under way together."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "model", nargs="?", help="an .onnx file, a run directory or a name of the zoo; as kdedge serve"
    )
    options.add_argument("--minutes", type=float, default=10.0, help="of full load")
    options.add_argument("--clients", type=int, default=64, help="connections that always have a request under way")
    options.add_argument("--malformed", type=int, default=10_000, help="malformed uploads")
    options.add_argument("--seed", type=int, default=0, help="of these")
    options.add_argument("--images", type=Path, help="folder of image files to send; by default JPEGs made for it")
    options.add_argument("--serve", default="", help="more options of kdedge serve, in one string")
    options.add_argument("--name", default="serve-load", help="start of the names of the result files")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    return options


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write JSON and Markdown, return the path of the latter."""
    given = parser().parse_args(arguments)
    model = default_model(given.model)[0].resolve()
    card = ModelCard.from_metadata(open_session(model).get_modelmeta().custom_metadata_map, model)
    with tempfile.TemporaryDirectory(prefix="kdedge-") as folder:
        images = given.images or _photographs(Path(folder))
        peer = [_peer(model, images)]
        with served(str(model), *given.serve.split()) as server:
            load = _load(server, given.clients, 60 * given.minutes, images)
            fuzz = _fuzz(server, given.seed, given.malformed)
        load["exit_code"] = server.process.returncode
        peer.append(_peer(model, images))
    data = {
        "model": card.name,
        "precision": card.precision,
        "size": card.preprocess.size,
        "options": given.serve,
        "load": load,
        "malformed": fuzz,
        "peer_images_per_second": peer,
        "conditions": all_conditions(),
    }
    return write_results(given.results, f"{given.name}-{slug(data['conditions'])}", data, page(data))


def _photographs(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        noisy = np.clip(image + rng.integers(-8, 8, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder


def _peer(model: Path, images: Path, seconds: float = 10.0) -> float:
    """Images a second of the bare loop."""
    words = [
        sys.executable,
        "-m",
        "benchmarks.serve.peer",
        str(model),
        str(default_threads()),
        str(seconds),
        str(images),
    ]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def _load(server: Served, clients: int, seconds: float, images: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.serve.client", server.host, str(server.port), str(clients), str(seconds)]
    with (
        watched(server.process.pid, EVERY) as memory,
        progress_bar("load") as progress,
        tempfile.TemporaryFile("w+") as out,  # a pipe would be full before it is read
    ):
        child = subprocess.Popen([*words, str(images)], stdout=out)
        while child.poll() is None:
            try:
                child.wait(1)
            except subprocess.TimeoutExpired:
                progress(min(int(memory[-1][0]) if memory else 0, round(seconds)), round(seconds))
        out.seek(0)
        found: dict[str, Any] = json.loads(out.read().splitlines()[-1])
    latencies = found.pop("latencies_ms")
    p50, p90, p99 = (float(np.percentile(latencies, share)) for share in (50, 90, 99))
    return {
        **found,
        "clients": clients,
        "images_per_second": len(latencies) / found["seconds"],
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "max_ms": max(latencies),
        "latencies_ms": latencies,
        "memory_mb": memory,
        "memory": growth(memory, min(FIRST, seconds / 10)),
        "alive": server.alive,
    }


def growth(memory: list[tuple[float, float]], first: float) -> dict[str, float | None]:
    """How much more memory the last fifth of a run took than the fifth after ``first`` seconds, 10^6 bytes.

    The medians hold the bodies that happened to wait; the least of each fifth is what stays, whatever is sent.
    """
    later = [resident for seconds, resident in memory if seconds >= first]
    few = len(later) // 5
    begin, end = (later[:few], later[-few:]) if few else ([], [])
    known = bool(begin and end)
    return {
        "begin_mb": statistics.median(begin) if known else None,
        "end_mb": statistics.median(end) if known else None,
        "growth": statistics.median(end) / statistics.median(begin) - 1 if known else None,
        "least_growth": min(end) / min(begin) - 1 if known else None,
        "peak_mb": max((resident for _, resident in memory), default=None),
    }


def _fuzz(server: Served, seed: int, count: int) -> dict[str, Any]:
    """Send malformed uploads, some at once; statuses of each kind (0: hung up without an answer, -1: no answer in time)."""
    kinds: dict[str, Counter[int]] = {}
    before = resident_mb(server.process.pid)

    async def send() -> None:
        uploads = malformed(seed, count)
        done = 0

        async def worker() -> None:
            nonlocal done
            for upload in uploads:
                try:
                    status = (await ask(server.host, server.port, upload.data, eof=upload.open)).status
                except (TimeoutError, OSError):
                    status = -1
                kinds.setdefault(upload.kind, Counter())[status] += 1
                done += 1
                progress(done, count)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))

    with progress_bar("malformed uploads") as progress:
        asyncio.run(send())
    health = asyncio.run(ask(server.host, server.port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    return {
        "count": count,
        "seed": seed,
        "kinds": {
            kind: {str(status): times for status, times in sorted(found.items())} for kind, found in kinds.items()
        },
        "only_4xx": all(400 <= status < 500 for found in kinds.values() for status in found),
        "memory_before_mb": before,
        "memory_after_mb": resident_mb(server.process.pid),
        "healthy_after": health.status == 200,
        "alive": server.alive,
    }


def page(data: dict[str, Any]) -> str:
    """The results for people."""
    load, fuzz, memory = data["load"], data["malformed"], data["load"]["memory"]
    peer = statistics.mean(data["peer_images_per_second"])
    rows: list[tuple[str, str]] = [
        ("clients", str(load["clients"])),
        ("seconds", f"{load['seconds']:.0f}"),
        ("answers by status", ", ".join(f"{status}: {count}" for status, count in load["statuses"].items())),
        ("images/s", f"{load['images_per_second']:.0f}"),
        ("images/s of a bare loop", f"{peer:.0f}"),
        ("share of the bare loop", f"{load['images_per_second'] / peer:.2f}"),
        ("p50 / p90 / p99 ms", f"{load['p50_ms']:.0f} / {load['p90_ms']:.0f} / {load['p99_ms']:.0f}"),
    ]
    if memory["growth"] is not None:
        rows.append(("memory begin / end MB", f"{memory['begin_mb']:.1f} / {memory['end_mb']:.1f}"))
        rows.append(("growth of the median / of the least", f"{memory['growth']:+.1%} / {memory['least_growth']:+.1%}"))
    kinds = [
        (kind, ", ".join(f"{status}: {n}" for status, n in found.items())) for kind, found in fuzz["kinds"].items()
    ]
    verdict = "only 4xx" if fuzz["only_4xx"] else "not only 4xx"
    return (
        f"# kdedge serve: {data['model']} ({data['precision']}, {data['size']} px)\n\n"
        f"{markdown_table(('full load', ''), rows)}\n"
        f"{fuzz['count']} malformed uploads: {verdict}; memory {fuzz['memory_before_mb']:.1f} MB before, "
        f"{fuzz['memory_after_mb']:.1f} MB after; the server {'lives' if fuzz['alive'] else 'died'}.\n\n"
        f"{markdown_table(('malformed', 'answers by status'), kinds)}\n"
        f"Clients, server and bare loop share the machine. {conditions_line(data['conditions'])}\n"
    )


if __name__ == "__main__":
    quiet_decoders()  # the malformed images are tried here before they are sent
    try:
        print(main())
    except KdedgeError as problem:
        sys.exit(f"error: {problem}")
