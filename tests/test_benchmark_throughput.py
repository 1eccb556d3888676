"""``benchmarks.distill_throughput``: the peer does the work it is said to do, the rates follow from the seconds."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import distill_throughput
from benchmarks.throughput import job, kernels, page, papers_way
from kdedge.errors import DataError, RunError
from kdedge.preprocess import Preprocess, decode
from kdedge.training.augment import Augment

NOTHING = Augment(flip=0, rotate=0, shift=0, zoom=(1, 1), jitter_p=0, blur=0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distill_throughput.make_photographs(tmp_path_factory.mktemp("jpegs") / "images", 7)


def test_photographs(photographs: Path, tmp_path: Path) -> None:
    again = distill_throughput.make_photographs(tmp_path / "again", 7)
    assert len({path.read_bytes() for path in photographs.iterdir()}) == 7
    for path in photographs.iterdir():
        pixels = decode(path).astype(float)
        assert all(256 <= side <= 500 for side in pixels.shape[:2])
        assert (
            np.abs(np.diff(pixels, axis=1)).mean() < 0.3 * pixels.std()
        )  # smooth: noise would give 2 / sqrt(pi) = 1.13
        assert path.read_bytes() == (again / path.name).read_bytes()


@pytest.mark.parametrize(
    ("shape", "part"), [((32, 32), np.s_[:, :]), ((32, 50), np.s_[:, 9:41]), ((40, 32), np.s_[4:36])]
)
def test_the_peers_input_is_the_centre_normalised(shape: tuple[int, int], part: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    fit = Preprocess(32)
    found = papers_way.papers_transform(NOTHING, fit)(Image.fromarray(pixels))
    expected = (pixels[part].astype(float) - np.array(fit.mean)) / np.array(fit.std)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected.transpose(2, 0, 1), atol=1e-5)


def view_of(pixels: np.ndarray, **changes: Any) -> np.ndarray:
    """A view (32, 32, 3), 0-255, with nothing but the changes done to it."""
    torch.manual_seed(0)
    transform = papers_way.papers_transform(replace(NOTHING, **changes), Preprocess(32, (0.0,) * 3, (255.0,) * 3))
    return 255 * transform(Image.fromarray(pixels)).permute(1, 2, 0).numpy()


def test_the_peers_random_transforms() -> None:
    ramp = np.repeat(np.tile(np.arange(32, dtype=np.uint8) * 4, (32, 1))[..., None], 3, axis=2)  # dark on the left
    np.testing.assert_allclose(view_of(ramp), ramp, atol=1e-3)
    np.testing.assert_allclose(view_of(ramp, flip=1), ramp[:, ::-1], atol=1e-3)
    for apart in ({}, {"rotate_p": 1, "zoom_p": 0.5}):  # one resampling, or one for each
        turned = view_of(ramp, rotate=(90, 90), **apart)
        np.testing.assert_allclose(turned[1:-1, 1:-1], np.rot90(ramp, -1)[1:-1, 1:-1], atol=1.001)
    factors = view_of(ramp, jitter_p=1, jitter=(0.4, 0, 0, 0))[:, 1:] / ramp[:, 1:].astype(float)
    assert 0.6 <= np.median(factors) <= 1.4
    assert factors[:, 8:].std() < 0.02 < abs(np.median(factors) - 1)  # one factor for all pixels, and not 1
    taps = np.exp(-0.5 * (np.arange(-2, 3) / 1.5) ** 2)
    blurred = (taps / taps.sum()) @ (4 * np.abs(np.arange(-2, 3)))  # the left edge, mirrored
    np.testing.assert_allclose(view_of(ramp, blur=1, blur_sigma=(1.5, 1.5))[:, 0], blurred, atol=0.501)
    erased = view_of(np.full((32, 32, 3), 255, np.uint8), erase=1, erase_area=(0.25, 0.25))
    assert (erased == 0).mean() == pytest.approx(0.25, abs=0.04)


class Watched(nn.Module):
    """A teacher that notes how it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((len(x), self.training, torch.is_grad_enabled()))
        return x.mean((2, 3)) * self.weight


def test_the_peer_asks_its_teacher_in_every_step(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Watched()
    student = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(12, 5))
    before = [parameter.detach().clone() for parameter in student.parameters()]
    networks = {"teacher": (teacher, 3), "student": (student, 5)}
    monkeypatch.setattr(papers_way, "build_trunk", lambda name, size: networks[name])
    monkeypatch.setattr(papers_way, "default_preprocess", lambda name, size: Preprocess(size))
    opened: list[Path] = []
    counted = SimpleNamespace(open=lambda path: (opened.append(path), Image.open(path))[1])
    monkeypatch.setattr(papers_way, "Image", counted)
    steps: list[int] = []
    done = papers_way.train_papers_way(
        sorted(photographs.iterdir()),
        teacher="teacher",
        student="student",
        size=32,
        batch=3,
        epochs=4,
        augment=NOTHING,
        workers=0,
        on_step=steps.append,
    )
    assert teacher.seen == [(3, False, False)] * 8  # 7 images: two whole batches an epoch
    assert len(opened) == 4 * 6  # decoded anew in every epoch
    assert steps == list(range(1, 9))
    assert done.images == 6
    assert len(done.epochs) == len(done.losses) == 4
    assert 0 < done.waited < sum(done.epochs)
    assert torch.equal(teacher.weight, torch.ones(3))
    assert all(not torch.equal(a, b) for a, b in zip(before, student.parameters(), strict=True))


MATRIX = [
    "sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize128x128x16_stage4_kernel_cudnn",
    "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_s1688wgrad_optimized_tf32_128x128_16x4_nhwc_align4>",
    "void dgrad2d_grouped_direct_kernel<float, float, float, int>(cudnnTensorStruct, float const*)",
    "ampere_sgemm_128x64_nn",
    "void gemv2T_kernel_val<int, int, float, float, float, 128, 16, 4, 4, false>",
    "void cudnn::winograd_nonfused::winogradForwardData4x4<float, float>",
    "void at::native::(anonymous namespace)::conv_depthwise2d_forward_kernel<3, float, int>",
    "void implicit_convolve_sgemm<float, float, 1024, 5, 5, 3, 3, 3, 1, true, false, true>",
    "nvjet_tst_128x64_64x5_2x1_v_bz_TNT",
    "void cublasLt::splitKreduce_kernel<32, 16, int, float, float, float, float, true, false, false>",
    "triton_tem_fused_convolution_0",
]
OTHER = [
    "void cudnn::ops::nchwToNhwcKernel<float, float, float, false, true>(cudnn::ops::nchw2nhwc_params_t)",
    "void cudnn::bn_bw_1C11_kernel_new<float, float, float2, 512, true, 1>",
    "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>",
    "void at::native::batch_norm_collect_statistics_channels_last_kernel<at::native::Var, float>",
    "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor<float, 4>>",
    "void convertTensor_kernel<float, __half>",
    "triton_poi_fused_convolution_relu_3",
    "void at::native::max_pool_forward_nhwc<float, int>",
    "void at::native::(anonymous namespace)::grid_sampler_2d_kernel<float, int>",
]


@pytest.mark.parametrize(("name", "matrix"), [*((name, True) for name in MATRIX), *((name, False) for name in OTHER)])
def test_kernels_by_name(name: str, matrix: bool) -> None:
    assert kernels.is_matrix_kernel(name) is matrix


def test_kernel_shares() -> None:
    def event(cat: str, name: str, ts: float, dur: float) -> dict[str, Any]:
        return {"cat": cat, "name": name, "ts": ts, "dur": dur}

    events = [
        event("kernel", MATRIX[0], 100, 30),
        event("kernel", MATRIX[0], 120, 30),  # on another stream: 10 overlap
        event("kernel", OTHER[0], 180, 20),
        event("gpu_memcpy", "Memcpy HtoD", 195, 5),
        event("cpu_op", "aten::convolution", 0, 1000),
        {"ph": "M", "name": "process_name"},
    ]
    found = kernels.kernel_shares(events, largest=1)
    assert found["matrix"] == pytest.approx(60 / 80)
    assert found["busy"] == pytest.approx((50 + 20) / 100)
    assert found["kernel_s"] == pytest.approx(80e-6)
    assert found["kernels"] == [{"name": MATRIX[0], "share": pytest.approx(0.75), "matrix": True}]
    with pytest.raises(RunError, match="no GPU kernels"):
        kernels.kernel_shares(events[3:])


def test_a_window_of_steps_is_profiled(tmp_path: Path) -> None:
    window = kernels.Window(tmp_path / "trace.json", first=2, steps=3)
    with pytest.raises(RunError, match="ended before"):
        kernels.read_trace(tmp_path / "trace.json")
    for step in range(1, 8):
        torch.ones(step, step) @ torch.ones(step, step)
        window(step)
    products = [event for event in kernels.read_trace(tmp_path / "trace.json") if event["name"] == "aten::mm"]
    assert len(products) == 3


def sample(side: str, images: int, distill: float, **more: Any) -> dict[str, Any]:
    seconds = {"prepare": 1.0, "distill": distill} | ({"read": 2.0, "teacher": 7.0} if side == "kdedge" else {})
    fixed = {"cpu_s": 20.0, "peak_mb": 900.0, "gpu_peak_mb": None, "worker_peak_mb": 400.0, "data_wait": 0.25}
    return {"side": side, "images": images, "seconds": seconds, "precision": "fp32", **fixed, **more}


def test_rates() -> None:
    measured = sample("kdedge", 500, 40.0)
    assert page.rate_at(measured, 5, 100) == pytest.approx(500 / 50)
    assert page.rate_at(measured, 100, 100) == pytest.approx(10_000 / (10 + 800))
    rates = [page.rate_at(measured, epochs, 100) for epochs in (1, 10, 100, 1e9)]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(500 / 40)  # what is done once no longer counts


def summary(**changes: Any) -> dict[str, Any]:
    settings = {"images": 110, "batch": 50, "epochs": 5, "paper_epochs": 1, "repeats": 3, "synthetic": True, "size": 32}
    settings |= {"teacher": "t/big", "student": "t/small", "augment": "light", "weights": "random", "views": 2}
    settings |= {"workers": 2, **changes}
    samples = [sample("kdedge", 500, distill, step_images_per_s=distill) for distill in (40.0, 90.0, 15.0)]
    samples += [sample("paper", 100, distill) for distill in (9.8, 99.0, 1.8)]
    return page.summarize(samples, settings)


def test_summary() -> None:
    found = summary()
    assert found["sides"]["kdedge"]["images_per_s"] == pytest.approx(500 / 50)  # the median training
    assert found["sides"]["paper"]["images_per_s"] == pytest.approx(500 / (1 + 5 * 9.8))
    assert found["ratio"]["images_per_s"] == pytest.approx(1.0)
    assert found["ratio"]["images_per_s_at_100_epochs"] == pytest.approx((1 + 980) / (10 + 800))
    assert found["sides"]["paper"]["cpu_ms_per_image"] == pytest.approx(200)
    assert found["sides"]["kdedge"]["seconds"] == {"prepare": 1, "read": 2, "teacher": 7, "distill": 40}


def test_page() -> None:
    conditions = {"date": "2026-01-02T", "cpu": "C", "cpu_flags": [], "cores_usable": 2, "os": "L", "versions": {}}
    known = {"conditions": {**conditions, "device": "cpu"}, "profiles": {}}
    text = page.markdown(summary() | known)
    assert "| the paper's way | 10.0 | 25% | 200.0 | 900 | - | fp32 |" in text
    assert "1.00 times as many" in text
    assert "1 of 5 epochs were measured" in text
    assert "prepare 1.0, read 2.0, teacher 7.0, distill 40.0" in text
    assert "steps alone see 40.0 images a second" in text
    assert "GPU time" not in text
    profile = {"matrix": 0.625, "busy": 0.5}
    gpu = {"conditions": {**conditions, "device": "A GPU"}, "profiles": {"paper": profile}}
    text = page.markdown(summary(paper_epochs=5) | gpu)
    assert "epochs were measured" not in text
    assert "| paper | 62% | 50% |" in text
    assert "\nA GPU. 2026-01-02, C" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "0"], "--epochs is 0"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--epochs", "2", "--paper-epochs", "3"], "--paper-epochs 3 is above --epochs 2"),
        (["--profile"], "no CUDA device"),
    ],
)
def test_refusals(options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RunError, match=words):
        distill_throughput.main([*options, "--results", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_too_few_images(photographs: Path) -> None:
    with pytest.raises(DataError, match="7 images do not fill a batch of 32"):
        distill_throughput.main(["--transfer", str(photographs)])


def test_a_side_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=3))
    with pytest.raises(RunError, match="the paper side ended with exit code 3"):
        job.run(job.Job("paper", "folder", 7, "t/big", "t/small"), 1)


def test_both_sides(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    networks = ["--teacher", "torchvision/resnet18", "--student", "timm/resnet10t", "--size", "32"]
    sizes = ["--images", "26", "--batch", "8", "--epochs", "2", "--threads", "1", "--precision", "fp32"]
    found = distill_throughput.main([*networks, *sizes, "--json", "--results", str(tmp_path)])
    data = json.loads(capfd.readouterr().out)
    assert data == json.loads(found.with_suffix(".json").read_text())
    assert found.name.startswith("distill-throughput-")
    assert [(taken["side"], taken["images"]) for taken in data["samples"]] == [("paper", 24), ("kdedge", 48)]
    for taken in data["samples"]:
        assert all(seconds >= 0 for seconds in taken["seconds"].values())
        assert taken["cpu_s"] > 0
        assert 100 < taken["peak_mb"] < 10_000
        assert (taken["threads"], taken["device"], taken["precision"]) == (1, "cpu", "fp32")
    paper, kdedge = (data["sides"][side]["images_per_s"] for side in ("paper", "kdedge"))
    assert kdedge == pytest.approx(48 / sum(data["samples"][1]["seconds"].values()))
    assert data["ratio"]["images_per_s"] == pytest.approx(kdedge / paper)
    assert "1 of 2 epochs were measured" in found.read_text()
