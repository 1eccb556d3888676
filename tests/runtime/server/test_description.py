"""What a server tells of itself: card, file, OpenAPI, metrics, page."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kdedge.files import sha256_of
from kdedge.runtime.classifier import Classifier
from kdedge.runtime.server import page
from tests.conftest import color_card, write_color_model
from tests.runtime.server.running import Running, picture, problem, running


def test_the_card(colors: Running, model: Path) -> None:
    told = httpx.get(f"{colors.url}/v1/model").json()
    assert told["labels"] == ["blue", "green", "red"]
    assert told["preprocess"] == color_card().preprocess.to_dict()
    assert (told["name"], told["precision"], told["provider"], told["enrolled"]) == ("colors", "fp32", "cpu", [])
    assert told["threshold"] is None
    assert (told["sha256"], told["bytes"]) == (sha256_of(model), model.stat().st_size)
    assert told["limits"] == {"bytes": 1_000_000, "pixels": 50_000_000, "files": 32, "queue": 128, "seconds": 30.0}
    assert "provenance" not in told
    assert str(model.parent) not in json.dumps(told)


def test_the_file(colors: Running, model: Path) -> None:
    found = httpx.get(f"{colors.url}/v1/model.onnx")
    assert found.content == model.read_bytes()
    assert httpx.head(f"{colors.url}/v1/model.onnx").headers["content-length"] == str(model.stat().st_size)
    again = httpx.get(f"{colors.url}/v1/model.onnx", headers={"If-None-Match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_file_that_is_not_given_away_or_has_changed(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.onnx"
    shutil.copy(model, path)
    with Classifier(path, 1) as classifier, running(classifier, download=False) as server:
        assert problem(httpx.get(f"{server.url}/v1/model.onnx"))["code"] == "no_download"
        assert httpx.get(f"{server.url}/v1/model").json()["download"] is False
    with Classifier(path, 1) as classifier, running(classifier) as server:
        write_color_model(path, gain=2.0)
        assert problem(httpx.get(f"{server.url}/v1/model.onnx"))["status"] == 409
        path.unlink()
        assert problem(httpx.get(f"{server.url}/v1/model.onnx"))["status"] == 404


def references(value: Any) -> list[str]:
    """All ``$ref`` in a description."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    return [found for item in value for found in references(item)] if isinstance(value, list) else []


@pytest.mark.filterwarnings("error")
def test_openapi(colors: Running) -> None:
    told = httpx.get(f"{colors.url}/openapi.json").json()
    assert told["openapi"].startswith("3.")
    assert {"title", "version"} <= set(told["info"])
    assert {"/v1/classify", "/v1/model", "/v1/model.onnx", "/healthz", "/metrics"} == set(told["paths"])
    operations = [one for methods in told["paths"].values() for one in methods.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    assert all(one["responses"] for one in operations)
    for reference in references(told):
        found = told
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found
    classify = told["paths"]["/v1/classify"]["post"]
    assert {one["name"] for one in classify["parameters"]} == {"top", "embedding"}
    assert {"multipart/form-data", "application/octet-stream"} < set(classify["requestBody"]["content"])
    assert {"200", "400", "401", "408", "413", "415", "422", "503"} <= set(classify["responses"])
    assert "all failed" in classify["description"]
    answer = colors.post(picture()).json()
    assert set(answer) == set(told["components"]["schemas"]["Answer"]["properties"])


def test_docs_need_no_network(colors: Running) -> None:
    found = httpx.get(f"{colors.url}/docs")
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert "/v1/classify" in found.text
    assert "<script" not in found.text
    assert "https://" not in found.text
    assert f"{colors.url}/v1/classify" in found.text  # the example


def test_metrics(colors: Running, model: Path) -> None:
    before = colors.metric('kdedge_requests_total{route="/v1/classify",status="200"}')
    colors.post(picture(), b"none")
    httpx.get(f"{colors.url}/never/{'x' * 50}")
    text = httpx.get(f"{colors.url}/metrics").text
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert {"kdedge_requests", "kdedge_request_seconds", "kdedge_images", "kdedge_inference_seconds"} < set(found)
    assert {"kdedge_queue_images", "kdedge_body_bytes", "kdedge_requests_in_flight"} < set(found)
    assert colors.metric('kdedge_requests_total{route="/v1/classify",status="200"}') == before + 1
    assert "never" not in text
    labels = found["kdedge_model_info"].samples[0].labels
    assert labels == {"name": "colors", "precision": "fp32", "provider": "cpu", "sha256": sha256_of(model)}
    if Path("/proc/self/statm").exists():
        assert found["process_resident_memory_bytes"].samples[0].value > 1e7
    wanted = httpx.get(f"{colors.url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert wanted.headers["content-type"].startswith("application/openmetrics-text")
    assert wanted.text.endswith("# EOF\n")


def test_the_page(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"index.html": (b"<p>hello", "text/html; charset=utf-8"), "a/b.wasm": (b"\0asm", "application/wasm")}
    monkeypatch.setattr(page, "page_files", lambda: files)
    with Classifier(model, 1) as classifier, running(classifier, page=True) as server:
        front = httpx.get(server.url)
        assert (front.content, front.headers["content-type"]) == files["index.html"]
        assert "frame-ancestors 'none'" in front.headers["content-security-policy"]
        assert front.headers["cross-origin-opener-policy"] == "same-origin"
        assert front.headers["cross-origin-embedder-policy"] == "require-corp"
        assert front.headers["cache-control"] == "no-cache"
        wasm = httpx.get(f"{server.url}/a/b.wasm")
        assert wasm.headers["content-type"] == "application/wasm"
        again = httpx.get(f"{server.url}/a/b.wasm", headers={"If-None-Match": wasm.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for path in ("/none", "/a", "/%2e%2e/%2e%2e/etc/passwd", "/a/%00", "/index.html/"):
            assert problem(httpx.get(server.url + path))["status"] == 404
        assert problem(httpx.post(server.url))["status"] == 405
        asked = httpx.get(f"{server.url}/v1/classify")
        assert (problem(asked)["status"], asked.headers["allow"]) == (405, "POST")
        assert httpx.get(f"{server.url}/docs").status_code == 200


def test_the_real_page(model: Path) -> None:
    with Classifier(model, 1) as classifier, running(classifier, page=True) as server:
        assert "<html" in httpx.get(server.url).text
        assert httpx.get(f"{server.url}/site.json").json()["mode"] == "server"


def test_no_page(colors: Running) -> None:
    assert problem(httpx.get(colors.url))["status"] == 404
