"""What the scripts share: Markdown tables, conditions, result files, quickstarts as subprocesses."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kdedge.errors import DataError
from kdedge.files import write_json, write_text
from kdedge.runtime.conditions import conditions

__all__ = [
    "RESULTS",
    "all_conditions",
    "conditions_line",
    "fill",
    "images_per_second",
    "markdown_table",
    "run_quickstart",
    "slug",
    "write_results",
]

RESULTS = Path(__file__).parent / "results"
TRAINING = ("torch", "torchvision", "timm", "onnx")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is aligned left, the others right."""
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)], *[[str(cell) for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def all_conditions() -> dict[str, Any]:
    """The machine and the software, with the versions of what trains and exports where that is installed."""
    known = conditions()
    for name in TRAINING:
        try:
            known["versions"][name] = version(name)
        except PackageNotFoundError:
            continue
    return known


def conditions_line(known: dict[str, Any]) -> str:
    """The conditions in a sentence for people."""
    flags = f" ({', '.join(known['cpu_flags'])})" if known["cpu_flags"] else ""
    versions = ", ".join(f"{name} {number}" for name, number in known["versions"].items())
    threads = f"{known['threads']} threads, " if "threads" in known else ""
    return f"{known['date'][:10]}, {known['cpu']}{flags}, {known['cores_usable']} cores, {threads}{known['os']}; {versions}."


def slug(known: dict[str, Any]) -> str:
    """The machine and the runtime as part of a file name: ``amd-epyc-2-cores-ort1.32.0``."""
    runtime = known["versions"].get("onnxruntime") or known["versions"].get("onnxruntime-gpu", "")
    text = f"{known['cpu']} {known['cores_usable']} cores ort{runtime}".lower()
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-")


def write_results(folder: Path, name: str, data: dict[str, Any], markdown: str) -> Path:
    """Write ``name.json`` and ``name.md`` into ``folder``; the path of the latter."""
    write_json(folder / f"{name}.json", data)
    path = folder / f"{name}.md"
    write_text(path, markdown)
    return path


def fill(text: str, marker: str, body: str) -> str:
    """Put ``body`` between ``<!-- marker -->`` and ``<!-- /marker -->``, in place of what is there."""
    pattern = re.compile(f"(<!-- {re.escape(marker)} -->).*?(<!-- /{re.escape(marker)} -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise DataError(f"exactly one <!-- {marker} --> with its <!-- /{marker} --> was expected.")
    return pattern.sub(lambda found: f"{found[1]}\n{body.strip()}\n{found[2]}", text)


def run_quickstart(out: Path, student: str, seed: int, budget: float) -> dict[str, Any]:
    """``summary.json`` of a quickstart in a process of its own; one that is finished is not run again."""
    summary = out / "summary.json"
    if not summary.is_file():
        if (out / "config.toml").is_file():
            shutil.rmtree(out)  # an interrupted run
        command = [sys.executable, "-m", "kdedge", "quickstart", "--student", student, "--seed", str(seed)]
        command += ["--budget", f"{budget:g}", "--out", str(out)]
        print(f"{student}, seed {seed}: {out}", file=sys.stderr, flush=True)
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    return found


def images_per_second(run: Path, seconds: float) -> float | None:
    """Images a second that the student was trained on, evaluations included; None if the run does not say."""
    try:
        batch = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))["distill"]["batch"]
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        return float(max(record["step"] for record in records) * batch / seconds)
    except (OSError, KeyError, ValueError, ZeroDivisionError):
        return None
