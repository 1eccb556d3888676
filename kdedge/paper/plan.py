"""What is run: the methods of the paper's tables and the sizes of three scales, as data."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from kdedge.errors import RunError

__all__ = ["SCALES", "Length", "Method", "Plan", "Scale", "paper_plan"]

TEACHER = "teacher"
CONCEPTS = "teacher-concepts"
PUPIL = "transfer-resnet50"  # the teacher with a head for the labelled classes teaches labels
KINDS = ("teacher", "concepts", "oneshot", "scratch", "transfer", "label-kd", "feature-kd")


@dataclass(frozen=True)
class Length:
    """How long a training lasts: ``epochs``, but ``steps`` at most (0: no limit)."""

    epochs: float
    steps: int = 0

    def of(self, items: int, batch: int) -> int:
        """In steps, for a number of items an epoch."""
        steps = max(1, round(self.epochs * max(1, items // min(batch, items))))
        return min(steps, self.steps) if self.steps else steps


@dataclass(frozen=True)
class Scale:
    """Sizes and lengths.

    Attributes:
        size: input of the networks, pixels; images are read at this size and enlarged for networks that need more.
        sizes: inputs of single networks, pixels.
        labelled, transfer, teacher, pretraining, oneshot: lengths of the trainings.
        convnet9: lengths of ConvNet-9's labelled and pre-training runs where they are shorter (its input has 224 pixels).
        draw: transfer images an epoch of pre-training draws; 0 for all (the paper: 8192).
        limit_transfer, limit_test, limit_teacher: images used at most; 0 for all.
        views: views of each transfer image, ``train_views`` of each labelled image, that the teacher sees.
        head: how the frozen trunk gets its last layer: ``logistic`` (regression to its optimum) or ``gradient`` (the
            paper's: like any other training).
    """

    name: str
    size: int
    sizes: tuple[tuple[str, int], ...]
    labelled: Length
    transfer: Length
    teacher: Length
    pretraining: Length
    oneshot: Length
    convnet9: tuple[Length, Length] | None = None
    batch: int = 16
    pretraining_batch: int = 32
    lr: float = 1e-3
    optimizer: str = "adam"
    schedule: str = "inverse-sqrt"
    weight_decay: float = 0.0
    augment: str = "paper"
    draw: int = 0
    limit_transfer: int = 0
    limit_test: int = 0
    limit_teacher: int = 0
    views: int = 1
    train_views: int = 8
    evaluations: int = 10
    triplets: int = 2000
    head: str = "gradient"

    def size_of(self, network: str) -> int:
        """Input of a network, pixels."""
        return dict(self.sizes).get(network, self.size)

    def with_(self, **changes: Any) -> "Scale":
        """A changed copy."""
        return replace(self, **changes)


SMALL_INPUTS = (("kdedge/convnet9", 193), ("torchvision/inception_v3", 80))  # the least they take
SCALES = {
    "smoke": Scale(
        name="smoke",
        size=32,
        sizes=SMALL_INPUTS,
        labelled=Length(2, 4),
        transfer=Length(2, 4),
        teacher=Length(2, 6),
        pretraining=Length(2, 6),
        oneshot=Length(1, 3),
        convnet9=(Length(1, 2), Length(1, 2)),
        batch=8,
        pretraining_batch=8,
        limit_transfer=64,
        limit_test=64,
        limit_teacher=128,
        train_views=2,
        evaluations=2,
        triplets=200,
        head="logistic",
    ),
    "small": Scale(
        name="small",
        size=64,
        sizes=SMALL_INPUTS,
        labelled=Length(10, 80),
        transfer=Length(10, 80),
        teacher=Length(10, 300),
        pretraining=Length(3, 200),
        oneshot=Length(2, 16),
        convnet9=(Length(4, 32), Length(1, 40)),
        batch=32,
        optimizer="adamw",
        schedule="cosine",
        weight_decay=0.05,
        augment="light",
        limit_transfer=2000,
        limit_test=600,
        limit_teacher=4000,
        train_views=4,
        evaluations=3,
        triplets=2000,
        head="logistic",
    ),
    "full": Scale(
        name="full",
        size=224,
        sizes=(),
        labelled=Length(100),
        transfer=Length(100),
        teacher=Length(100),
        pretraining=Length(100),
        oneshot=Length(100),
        draw=8192,
        evaluations=20,
    ),
}


@dataclass(frozen=True)
class Method:
    """A row of a table.

    Attributes:
        table: of the paper; 0 for what only prepares others.
        row: its name there.
        kind: one of :data:`KINDS`.
        weights: what the trunk starts from: ``random``, ``pretrained`` (published; the row says so if they cannot be had), or
            the name of a method whose trunk is taken.
        loss: of the pre-training.
        needs: methods whose results this one uses.
        paper: the paper has this row; the others are kdedge's.
        remark: goes under the table.
    """

    name: str
    table: int
    row: str
    kind: str
    network: str
    weights: str = "random"
    loss: str = ""
    needs: tuple[str, ...] = ()
    paper: bool = True
    remark: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RunError(f"{self.name}: unknown kind of method {self.kind!r}; expected one of {', '.join(KINDS)}.")


@dataclass(frozen=True)
class Plan:
    """A scale, the methods in the order they run, and the seeds of the cells.

    Attributes:
        teacher: ``run:DIR`` in the place of the teacher that is fitted otherwise.
    """

    scale: Scale
    methods: tuple[Method, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    teacher: str | None = None

    def __post_init__(self) -> None:
        known = {method.name for method in self.methods}
        for method in self.methods:
            if missing := [name for name in method.needs if name not in known]:
                raise RunError(f"{method.name} needs {missing[0]}, which is not in the plan.")

    def method(self, name: str) -> Method:
        """By its name; RunError lists the names if there is none."""
        for method in self.methods:
            if method.name == name:
                return method
        raise RunError(f"unknown method {name!r}; choose among {', '.join(m.name for m in self.methods if m.table)}.")

    def seeds_of(self, method: Method) -> tuple[int, ...]:
        """Teachers are fitted once: all rows learn from the same one."""
        return self.seeds[:1] if method.table == 0 else self.seeds

    def only(self, names: tuple[str, ...]) -> "Plan":
        """These methods and all that they need, in the same order; all of them if no name is given."""
        if not names:
            return self
        wanted, queue = set[str](), [self.method(name) for name in names]
        while queue:
            method = queue.pop()
            wanted.add(method.name)
            queue += [self.method(name) for name in method.needs if name not in wanted]
        return replace(self, methods=tuple(method for method in self.methods if method.name in wanted))

    def settings(self, method: Method, seed: int) -> dict[str, Any]:
        """Everything of the plan that the method's result depends on, as plain JSON values."""
        scale = {key: _plain(value) for key, value in asdict(self.scale).items()}
        told = {key: _plain(value) for key, value in asdict(method).items() if key not in ("row", "remark", "paper")}
        return {**told, "seed": seed, "scale": scale, "teacher": self.teacher}


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


RESNET50, RESNET18, CONVNET9 = "torchvision/resnet50", "torchvision/resnet18", "kdedge/convnet9"
INCEPTION, MOBILENET, LITE0 = "torchvision/inception_v3", "timm/mobilenetv1_100", "timm/efficientnet_lite0"
OWN = "timm/mobilenetv4_conv_small"

_IN_DOMAIN = "The paper's trunk had seen VGGFace2; here it is that of the teacher."
METHODS: tuple[Method, ...] = (
    Method(TEACHER, 0, "teacher", "teacher", RESNET50),
    Method("oneshot-convnet9", 1, "ConvNet-9", "oneshot", CONVNET9),
    Method("oneshot-resnet50", 1, "ResNet-50", "oneshot", RESNET50, TEACHER, needs=(TEACHER,), remark=_IN_DOMAIN),
    Method("scratch-resnet50", 2, "ResNet-50", "scratch", RESNET50),
    Method("scratch-resnet18", 2, "ResNet-18", "scratch", RESNET18),
    Method("scratch-convnet9", 2, "ConvNet-9", "scratch", CONVNET9),
    Method("scratch-inception", 2, "Inception-V3", "scratch", INCEPTION),
    Method("scratch-mobilenet", 2, "MobileNet", "scratch", MOBILENET),
    Method(PUPIL, 3, "ResNet-50", "transfer", RESNET50, TEACHER, needs=(TEACHER,), remark=_IN_DOMAIN),
    Method("transfer-inception", 3, "Inception-V3", "transfer", INCEPTION, "pretrained"),
    Method("transfer-mobilenet", 3, "MobileNet", "transfer", MOBILENET, "pretrained"),
    Method(
        "transfer-lite0",
        3,
        "EfficientNet-Lite0 (ImageNet)",
        "transfer",
        LITE0,
        "pretrained",
        paper=False,
        remark="Not in the paper: a network whose ImageNet weights a package registry carries.",
    ),
    Method(
        "label-kd-convnet9",
        4,
        "ConvNet-9",
        "label-kd",
        CONVNET9,
        needs=(PUPIL,),
        remark="The paper's teacher was Inception-V3 trained from scratch; here it is the ResNet-50 of Table 3.",
    ),
    Method("feature-mse-convnet9", 5, "ConvNet-9", "feature-kd", CONVNET9, loss="mse", needs=(TEACHER,)),
    Method(
        "feature-kdedge",
        5,
        "MobileNetV4-Conv-Small",
        "feature-kd",
        OWN,
        loss="mse+cosine",
        needs=(TEACHER,),
        paper=False,
        remark="Not in the paper: kdedge's compact student with its default loss.",
    ),
    Method(CONCEPTS, 0, "teacher with concepts", "concepts", RESNET50, TEACHER, needs=(TEACHER,)),
    Method("feature-bce-resnet18", 6, "ResNet-18", "feature-kd", RESNET18, loss="bce", needs=(CONCEPTS,)),
    Method("feature-bce-convnet9", 6, "ConvNet-9", "feature-kd", CONVNET9, loss="bce", needs=(CONCEPTS,)),
)


def paper_plan(scale: str = "small", seeds: int = 3, teacher: str | None = None, only: tuple[str, ...] = ()) -> Plan:
    """The whole table set, or the methods in ``only`` and what they need.

    Args:
        scale: ``smoke``, ``small`` or ``full``.
        seeds: how many (0, 1, ...); at least 3, except at ``smoke``.
        teacher: ``run:DIR``, a network that kdedge trained, instead of fitting one.

    Raises:
        RunError: unknown scale or method, too few seeds, or another kind of teacher.
    """
    if scale not in SCALES:
        raise RunError(f"unknown scale {scale!r}; choose one of {', '.join(SCALES)}.")
    least = 1 if scale == "smoke" else 3
    if seeds < least:
        raise RunError(f"--seeds is {seeds}; tables at scale {scale} need at least {least}.")
    if teacher is not None and not teacher.startswith("run:"):
        raise RunError(f"--teacher is {teacher!r}; expected run:DIR, from 'kdedge teacher fit'.")
    return Plan(SCALES[scale], METHODS, tuple(range(seeds)), teacher).only(only)
