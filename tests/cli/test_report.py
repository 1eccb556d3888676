"""``kdedge report`` from the outside, and its page in a browser."""

import json
import re
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from tests.runtime.runs import write_images, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that recorded its test images."""
    images = write_images(tmp_path / "test")
    return write_run(tmp_path / "run", settings={"test": str(images)})


def test_the_runs_own_test_images(run_kdedge, run: Path, tmp_path: Path) -> None:
    done = run_kdedge("report", run)
    assert done.returncode == 0, done.stderr
    assert f"evaluate: 12 images of {tmp_path / 'test'} (test images of the run)" in done.stderr
    assert done.stdout.startswith(f"report: {run / 'report.html'} (")
    assert "not on it: speed beside ResNet-50, memory; kdedge bench" in done.stdout
    assert "Class by class" in (run / "report.html").read_text(encoding="utf-8")


def test_json_other_images_and_bench(run_kdedge, run: Path, tmp_path: Path) -> None:
    images, out, bench = write_images(tmp_path / "others", each=3), tmp_path / "deep" / "page.html", tmp_path / "b.json"
    bench.write_text(json.dumps({"rows": [{"model": "m", "role": "student", "precision": "fp32", "p50_ms": 3.5}]}))
    done = run_kdedge("report", run, "--data", images, "--max-images", 6, "--bench", bench, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["report"] == str(out)
    assert found["bytes"] == out.stat().st_size
    assert found["evaluated"]["role"] == "given"
    assert (found["evaluated"]["images"], found["evaluated"]["of"]) == (6, 9)
    assert found["evaluated"]["accuracy"] == {"int8": pytest.approx(1 / 3), "fp32": 1.0}
    assert found["evaluated"]["disagreements"] == 4
    assert found["recorded"]["test_accuracy"] == 1.0
    assert "3.50" in out.read_text(encoding="utf-8")
    assert not (run / "report.html").exists()


def test_nothing_is_evaluated_without_images(run_kdedge, run: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "test")
    done = run_kdedge("report", run, "--json")
    assert done.returncode == 0, done.stderr
    assert "are not there any more; give images with --data DIR" in done.stderr
    assert json.loads(done.stdout)["evaluated"] is None
    assert any("--data" in each["command"] for each in json.loads(done.stdout)["missing"])
    assert run_kdedge("report", run, "--no-data").stderr == ""


def test_mistakes(run_kdedge, run: Path, tmp_path: Path) -> None:
    bare = write_run(tmp_path / "bare", exported=False)
    (tmp_path / "x.json").write_text("{}")
    cases = {
        "no such run": ["absent"],
        "not a run directory": [tmp_path],
        "no such folder": [run, "--data", "absent"],
        "not both": [run, "--data", tmp_path / "test", "--no-data"],
        "nothing is exported": [bare, "--data", tmp_path / "test"],
        "no rows": [run, "--bench", tmp_path / "x.json"],
    }
    for words, arguments in cases.items():
        done = run_kdedge("report", *arguments)
        assert done.returncode == 2
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ")
        assert words in last
    (run / "metrics.jsonl").write_text("garbled\n")
    assert "line 1 is not JSON" in run_kdedge("report", run).stderr


def variables(dark: bool) -> dict[str, tuple[float, float, float]]:
    """The colours of the page by name, 0-1."""
    css = files("kdedge.runtime.report").joinpath("report.css").read_text(encoding="utf-8")
    found = re.findall(r":root \{([^}]*)\}", css)[dark]
    pairs = re.findall(r"--(\w+): #(\w+);", found)
    full = {name: "".join(letter * (2 if len(code) == 3 else 1) for letter in code) for name, code in pairs}
    return {name: tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)) for name, code in full.items()}  # type: ignore[misc]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """As WCAG 2.2 defines it, 1-21."""

    def luminance(color: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dim, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_of_letters(dark: bool) -> None:
    color = variables(dark)
    for ground in ("paper", "soft", "track"):
        for letters in ("ink", "muted", "accent"):
            assert contrast(color[letters], color[ground]) >= 4.5, (letters, ground)
    darkest = tuple(0.5 * a + 0.5 * p for a, p in zip(color["accent"], color["paper"], strict=True))
    assert contrast(color["ink"], darkest) >= 4.5  # a count on the fullest cell of the confusion matrix
    assert contrast(color["bar"], color["paper"]) >= 3.0
    assert contrast(color["bar"], color["accent"]) >= 1.2  # told apart in grey, too


@pytest.mark.skipif(not CHROMIUM, reason="no chromium here")
def test_in_a_browser(run_kdedge, run: Path) -> None:
    """Nothing is wider than a phone, nothing is fetched, nothing complains, and a dark page is dark."""
    sync = pytest.importorskip("playwright.sync_api")
    assert run_kdedge("report", run).returncode == 0
    address = (run / "report.html").as_uri()
    with sync.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
            said: list[str] = []
            asked: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
            heights = "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
            assert page.evaluate(f"{heights}.filter(h => h && h < 9).length") == 0  # letters of charts stay readable
            broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
            assert page.evaluate(broken) == 0
            page.set_viewport_size({"width": 1100, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") == 1100
            assert said == []
            assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        finally:
            browser.close()
