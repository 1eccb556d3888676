"""What is measured at start, on a clock that only the steps move."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from kdedge.errors import RunError
from kdedge.training import tune as module
from kdedge.training import tune_teacher as teacher_module
from kdedge.training.engine import Engine
from kdedge.training.teachers import TeacherInput, build_teacher
from kdedge.training.tune import MARGIN, faster_precision, tune
from kdedge.training.tune_teacher import LEAST_COSINE, tune_teacher

CPU = Engine(torch.device("cpu"))
ELSEWHERE = Engine(torch.device("meta"))  # neither a CPU nor a GPU that would have to be there


@dataclass
class Watch:
    """In the place of ``time``: a step takes as long as it says."""

    now: float = 0.0
    engines: list[Engine] = field(default_factory=list)

    def perf_counter(self) -> float:
        return self.now

    def step(self, milliseconds: Callable[[Engine], float]) -> Callable[[Engine], None]:
        def run(engine: Engine) -> None:
            self.engines.append(engine)
            self.now += milliseconds(engine) / 1000

        return run


@pytest.fixture
def watch(monkeypatch) -> Watch:
    made = Watch()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(teacher_module, "time", made)
    return made


@pytest.fixture(params=[True, False], ids=["bf16", "no bf16"])
def has_bf16(request, monkeypatch) -> bool:
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: request.param)
    monkeypatch.setattr(teacher_module, "cpu_has_bf16", lambda: request.param)
    return request.param


@pytest.fixture
def with_bf16(monkeypatch) -> None:
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(teacher_module, "cpu_has_bf16", lambda: True)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def of(engine: Engine) -> str:
    return f"{engine.precision} {'channels_last' if engine.channels_last else 'contiguous'}"


FP32_LAST, BF16_LAST, FP32, BF16 = "fp32 channels_last", "bf16 channels_last", "fp32 contiguous", "bf16 contiguous"


@pytest.mark.parametrize(
    ("costs", "chosen"),
    [
        ({FP32_LAST: 100, BF16_LAST: 30, FP32: 90, BF16: 40}, BF16_LAST),
        ({FP32_LAST: 100, BF16_LAST: 40, FP32: 90, BF16: 30}, BF16),
        ({FP32_LAST: 100, BF16_LAST: 300, FP32: 70, BF16: 300}, FP32),
        ({FP32_LAST: 100, BF16_LAST: 110, FP32: 120, BF16: 120}, FP32_LAST),
        ({FP32_LAST: 100, BF16_LAST: 100 * MARGIN + 1, FP32: 90, BF16: 90}, FP32_LAST),  # not worth it
        ({FP32_LAST: 100, BF16_LAST: 100 * MARGIN - 1, FP32: 90, BF16: 90}, BF16_LAST),
    ],
)
def test_the_fastest_is_taken_if_it_is_clearly_faster(costs, chosen, watch, with_bf16):
    tuned = tune(CPU, watch.step(lambda engine: costs[of(engine)]))
    assert of(tuned.engine) == chosen
    assert tuned.engine.device == CPU.device
    assert not tuned.engine.compiled
    assert tuned.threads == torch.get_num_threads()
    assert tuned.milliseconds == pytest.approx(costs)
    assert f"{FP32_LAST} 100 ms" in tuned.words()


def test_what_is_slowed_down_now_and_then_is_judged_by_its_fastest_step(watch, with_bf16):
    """Other work on the machine hits the fast one in two of its steps after the warming up."""
    disturbed = iter([0, 100, 0, 100])

    def cost(engine):
        return 60 + next(disturbed) if of(engine) == BF16_LAST else 100

    assert of(tune(CPU, watch.step(cost), layout="channels_last").engine) == BF16_LAST


def test_the_first_step_does_not_count(watch, with_bf16):
    seen = set()

    def cost(engine):
        first = of(engine) not in seen
        seen.add(of(engine))
        return {FP32_LAST: 100, BF16_LAST: 30}[of(engine)] + (10_000 if first else 0)

    tuned = tune(CPU, watch.step(cost), layout="channels_last")
    assert tuned.milliseconds == pytest.approx({FP32_LAST: 100, BF16_LAST: 30})


def test_what_is_hopeless_is_not_asked_again(watch, with_bf16):
    costs = {FP32_LAST: 10, FP32: 15, BF16_LAST: 500, BF16: 19}
    tune(CPU, watch.step(lambda engine: costs[of(engine)]))
    asked = [of(engine) for engine in watch.engines]
    assert {name: asked.count(name) for name in costs} == {FP32_LAST: 4, FP32: 4, BF16: 4, BF16_LAST: 2}


def test_bf16_is_not_tried_where_it_would_be_emulated(watch, has_bf16):
    tuned = tune(CPU, watch.step(lambda engine: 10 if engine.precision == "bf16" else 100))
    assert ({engine.precision for engine in watch.engines} == {"fp32", "bf16"}) is has_bf16
    assert tuned.engine.precision == ("bf16" if has_bf16 else "fp32")
    watch.engines.clear()
    assert faster_precision(CPU, watch.step(lambda engine: 10 if engine.precision == "bf16" else 100)) == (
        "bf16" if has_bf16 else "fp32"
    )
    assert bool(watch.engines) is has_bf16


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("fpu sse2 avx512_bf16 avx512_fp16", True),
        ("fpu amx_bf16 amx_tile", True),
        ("fp asimd i8mm bf16 dgh", True),
        ("fpu avx2 avx512f", False),
        (None, False),
    ],
)
def test_what_the_cpu_can_is_read_from_linux(flags, found, monkeypatch, tmp_path):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(module, "Path", lambda asked: tmp_path / Path(asked).relative_to("/proc"))
    assert module.cpu_has_bf16() is found


@pytest.mark.parametrize("share", [MARGIN - 0.01, MARGIN + 0.01])
def test_faster_precision_keeps_to_the_margin(share, watch, with_bf16):
    found = faster_precision(CPU, watch.step(lambda engine: 100 * (share if engine.precision == "bf16" else 1)))
    assert found == ("bf16" if share < MARGIN else "fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_what_was_given_is_not_measured(precision, layout, watch, has_bf16):
    tuned = tune(CPU, watch.step(lambda _: 10), precision, layout=layout, compiled=True)
    assert of(tuned.engine) == f"{precision} {layout}"
    assert tuned.engine.compiled
    assert {of(engine) for engine in watch.engines} == {f"{precision} {layout}"}


@pytest.mark.parametrize(("half", "taken"), [(90, 2), (97, 4), (100, 4), (300, 4)])
def test_half_the_threads_where_that_is_faster(half, taken, watch, threads, monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    tuned = tune(CPU, watch.step(lambda _: half if torch.get_num_threads() == 2 else 100), "fp32")
    assert tuned.threads == torch.get_num_threads() == taken
    assert tuned.milliseconds["2 threads"] == pytest.approx(half)


def test_threads_that_were_given_stay(watch, threads, monkeypatch):
    used = set()

    def cost(_):
        used.add(torch.get_num_threads())
        return 10 * torch.get_num_threads()  # the fewer the faster

    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    assert tune(CPU, watch.step(cost), "fp32", fixed_threads=True).threads == 4
    monkeypatch.setattr(module, "usable_cores", lambda: 8)  # somebody chose 4 of them
    assert tune(CPU, watch.step(cost), "fp32").threads == 4
    assert used == {4}


@pytest.mark.parametrize(("compiled", "share"), [(None, 0.9), (None, 0.97), (True, None), (False, None)])
def test_elsewhere_only_compilation_is_measured(compiled, share, watch):
    step = watch.step(lambda engine: 100 * (share if engine.compiled else 1))
    tuned = tune(ELSEWHERE, step, compiled=compiled)
    assert of(tuned.engine) == BF16_LAST
    assert tuned.engine.compiled is (share < 0.95 if compiled is None else compiled)
    assert bool(watch.engines) is (compiled is None)
    assert tune(ELSEWHERE, step, "fp32").engine.precision == "fp32"


@dataclass
class Pretender:
    """A teacher that takes as long, and errs in bf16 as much, as it is told."""

    watch: Watch
    seconds: dict[str, float]
    noise: float
    name: str = "pretender"
    precision: str = "fp32"
    asked: list[str] = field(default_factory=list)

    def embed(self, images):
        self.asked.append(self.precision)
        self.watch.now += self.seconds[self.precision]
        rng = np.random.default_rng(0)
        exact = 1e3 + rng.normal(size=(len(images), 64))  # a mean that would hide any error, were it not taken out
        rough = self.noise * rng.normal(size=exact.shape) if self.precision == "bf16" else 0
        return (exact + rough).astype(np.float32)


IMAGES = np.zeros((8, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("seconds", "noise", "chosen"),
    [
        (0.3, 0.002, "bf16"),
        (0.3, 0.1, "fp32"),  # a cosine of about 1 / sqrt(1 + 0.1**2) = 0.995
        (MARGIN - 0.01, 0.0, "bf16"),
        (MARGIN + 0.01, 0.0, "fp32"),
        (2.0, 0.0, "fp32"),
    ],
)
def test_a_teacher_computes_in_bf16_where_it_is_faster_and_agrees(seconds, noise, chosen, watch, with_bf16):
    teacher = Pretender(watch, {"fp32": 1.0, "bf16": seconds}, noise)
    said: list[str] = []
    assert tune_teacher(teacher, IMAGES, "auto", said.append) == teacher.precision == chosen
    assert len(said) == 1
    assert said[0].startswith(f"teacher precision: {chosen} (fp32 8 images/s, bf16 {8 / seconds:.0f} images/s, cosine ")


def test_one_image_that_differs_is_enough(watch, with_bf16):
    class Blind(Pretender):
        def embed(self, images):
            found = super().embed(images)
            if self.precision == "bf16":
                found[3] = found[3].mean()
            return found

    teacher = Blind(watch, {"fp32": 1.0, "bf16": 0.1}, 0.0)
    assert tune_teacher(teacher, IMAGES, "auto", lambda _: None) == teacher.precision == "fp32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is always asked")
def test_a_teacher_is_not_tried_on_a_cpu_without_bf16(watch, monkeypatch):
    monkeypatch.setattr(teacher_module, "cpu_has_bf16", lambda: False)
    teacher = Pretender(watch, {"fp32": 1.0, "bf16": 0.1}, 0.0, precision="bf16")
    assert tune_teacher(teacher, IMAGES, "auto", lambda _: None) == teacher.precision == "fp32"
    assert teacher.asked == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_teachers_precision_may_be_given(precision, watch):
    teacher = Pretender(watch, {}, 0.0)
    assert tune_teacher(teacher, IMAGES, precision, lambda _: None) == teacher.precision == precision
    assert teacher.asked == []


def test_an_onnx_teacher_has_no_choice(teacher_file):
    teacher = build_teacher(f"onnx:{teacher_file}")
    for precision in ("auto", "fp32"):
        assert tune_teacher(teacher, IMAGES, precision, lambda _: None) == "fp32"
    with pytest.raises(RunError, match="computes as its file says; leave out --teacher-precision"):
        tune_teacher(teacher, IMAGES, "bf16", lambda _: None)
    assert not hasattr(teacher, "precision")


def test_a_torch_teacher_in_bf16_stands_for_itself_in_fp32():
    """What ``auto`` asks for is within reach of a real network, and its precision is that of what it computes."""
    torch.manual_seed(0)
    teacher = build_teacher("timm/test_resnet", "random", TeacherInput(size=32))
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    found = {}
    for precision in ("fp32", "bf16"):
        tune_teacher(teacher, images, precision, lambda _: None)
        found[precision] = teacher.embed(images).astype(np.float64)
    assert not (found["fp32"] == found["bf16"]).all()
    one, two = found["fp32"].ravel(), found["bf16"].ravel()
    assert one @ two / np.linalg.norm(one) / np.linalg.norm(two) > LEAST_COSINE
