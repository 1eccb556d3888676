"""Teachers: frozen networks whose penultimate activations a student imitates.

A teacher takes the same uint8 pixels as the student and prepares them its own way; the wrong preparation is what kept the
paper's regression from learning, so an ONNX teacher that does not carry its own must be told one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdedge.card import ModelCard
from kdedge.errors import ModelError
from kdedge.preprocess import Preprocess
from kdedge.training.names import split_name
from kdedge.training.students import build_trunk, default_preprocess, default_size, pretrained_trunk, weights_for

__all__ = ["Teacher", "TeacherInput", "build_teacher", "look"]

Say = Callable[[str], None]


class Teacher(Protocol):
    """What distillation asks of a teacher."""

    name: str
    dim: int
    preprocess: Preprocess

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Fitted RGB images (B, size, size, 3), uint8, to activations (B, dim), always in eval mode, without gradients."""
        ...

    def fingerprint(self) -> str:
        """Changes whenever the activations of an image could: weights, output, preprocessing."""
        ...


@dataclass(frozen=True)
class TeacherInput:
    """How the teacher wants its input, where its own metadata does not say (units of 0-255 pixel values)."""

    size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    color: str | None = None

    def override(self, base: Preprocess) -> Preprocess:
        """``base`` with whatever is given here put in its place."""
        return Preprocess(
            self.size or base.size,
            self.mean or base.mean,
            self.std or base.std,
            self.color or base.color,  # type: ignore[arg-type]
            base.resize,
        )


def build_teacher(
    name: str, weights: str = "pretrained", given: TeacherInput | None = None, say: Say = lambda _: None
) -> Teacher:
    """Build a teacher.

    Args:
        name: ``timm/NAME``, ``torchvision/NAME``, or ``onnx:FILE[:OUTPUT]`` (OUTPUT: any tensor of the graph; the first
            output otherwise), or ``run:DIR`` (a network that kdedge trained).
        weights: ``pretrained`` (published ones), ``random`` (for tests), or a file; ignored by ONNX teachers.
        given: preprocessing that overrides the network's own.

    Raises:
        ModelError: unknown name, weights that cannot be had, an ONNX file whose preprocessing nobody said.
    """
    given = given or TeacherInput()
    if name.startswith("onnx:"):
        return OnnxTeacher(name, given)
    if name.startswith("run:"):
        from kdedge.training.teacher_run import RunTeacher  # a run is read with what stands on this module

        if given != TeacherInput():
            raise ModelError(
                f"{name}: a run knows how its teacher's input is prepared; leave out --teacher-size and the like."
            )
        return RunTeacher(name.removeprefix("run:"))
    return TorchTeacher(name, weights, given, say)


def look(
    network: Callable[[Tensor], Tensor],
    images: NDArray[np.uint8],
    preprocess: Preprocess,
    device: torch.device,
    precision: str = "fp32",
) -> NDArray[np.float32]:
    """A torch network's output (B, D) of fitted RGB images (B, size, size, 3), without gradients."""
    batch = torch.from_numpy(preprocess.normalize(images)).to(device, memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        activations: NDArray[np.float32] = network(batch).float().cpu().numpy()
    return activations


class TorchTeacher:
    """A timm or torchvision network up to its penultimate layer."""

    def __init__(self, name: str, weights: str, given: TeacherInput, say: Say) -> None:
        split_name(name, "teacher")
        self.name = name
        self.preprocess = given.override(default_preprocess(name, given.size or default_size(name)))
        size = self.preprocess.size
        if weights in ("pretrained", "auto"):
            trunk, self.dim, source = pretrained_trunk(name, size, say)
            say(f"teacher weights: {source}")
        else:
            trunk, self.dim = build_trunk(name, size)
            if weights != "random":
                state = weights_for(name, weights)
                own = trunk.state_dict()
                if missing := [key for key in own if key not in state or state[key].shape != own[key].shape]:
                    raise ModelError(f"{weights}: lacks tensor {missing[0]!r} of {name} (and {len(missing) - 1} more).")
                trunk.load_state_dict({key: state[key] for key in own})
            else:
                say(f"teacher {name} has RANDOM weights: use it for tests only")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = "fp32"
        self._trunk: nn.Module = trunk.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :class:`Teacher`."""
        return look(self._trunk, images, self.preprocess, self.device, self.precision)

    def fingerprint(self) -> str:
        """See :class:`Teacher`."""
        digest = sha256(f"{self.name} {self.preprocess} {self.precision}".encode())
        for key, tensor in self._trunk.state_dict().items():
            digest.update(key.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class OnnxTeacher:
    """Any ONNX network with one image input, run by onnxruntime."""

    def __init__(self, name: str, given: TeacherInput) -> None:
        self.name = name
        file, output = _split_onnx_name(name)
        try:
            model = onnx.load(file)
        except Exception as error:
            raise ModelError(f"{file}: not an ONNX file that can be read ({type(error).__name__}).") from error
        self._data = _with_output(model, output, file).SerializeToString()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()  # ORT ignores cgroup limits
        wanted = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in ort.get_available_providers()]
        try:
            self._session = ort.InferenceSession(self._data, options, providers=wanted)
        except Exception as error:  # onnxruntime's errors have no common base but this one
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(f"{file}: onnxruntime cannot run this file ({reason}).") from error
        self._output = output or self._session.get_outputs()[0].name
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise ModelError(
                f"{file}: one input of shape (B, 3, H, W) was expected, found {[i.shape for i in inputs]}."
            )
        self._input = inputs[0].name
        self.preprocess = self._preprocess_of(inputs[0].shape, given, file)
        size = self.preprocess.size
        probe = self.embed(np.zeros((1, size, size, 3), np.uint8))
        self.dim = int(probe.shape[1])

    def _preprocess_of(self, shape: list[int | str], given: TeacherInput, file: Path) -> Preprocess:
        metadata = self._session.get_modelmeta().custom_metadata_map
        if "kdedge.card" in metadata:
            return given.override(ModelCard.from_metadata(metadata, file).preprocess)
        if given.mean is None or given.std is None:
            raise ModelError(
                f"{file}: an ONNX teacher does not say how its input is prepared; give --teacher-mean and --teacher-std "
                "(in units of 0-255, e.g. 0,0,0 and 1,1,1) and, if it wants BGR, --teacher-color bgr."
            )
        size = given.size or shape[-1]
        if not isinstance(size, int):
            raise ModelError(f"{file}: the input size is free; give --teacher-size.")
        return given.override(Preprocess(size))

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :class:`Teacher`; feature maps are averaged over their positions."""
        batch = self.preprocess.normalize(images)
        try:
            activations = np.asarray(self._session.run([self._output], {self._input: batch})[0], np.float32)
        except Exception as error:
            raise ModelError(f"{self.name}: cannot run ({str(error).splitlines()[0][:200]}).") from error
        if activations.ndim == 4:
            activations = activations.mean(axis=(2, 3))
        return activations.reshape(len(images), -1)

    def fingerprint(self) -> str:
        """See :class:`Teacher`."""
        return sha256(f"{self._output} {self.preprocess}".encode() + self._data).hexdigest()


def _split_onnx_name(name: str) -> tuple[Path, str]:
    rest = name.removeprefix("onnx:")
    if Path(rest).is_file():
        return Path(rest), ""
    file, _, output = rest.rpartition(":")
    if file and Path(file).is_file():
        return Path(file), output
    raise ModelError(f"{name}: no such ONNX file; expected onnx:FILE or onnx:FILE:OUTPUT.")


def _with_output(model: onnx.ModelProto, output: str, file: Path) -> onnx.ModelProto:
    """Make an inner tensor an output of the graph."""
    if not output or output in {value.name for value in model.graph.output}:
        return model
    inner = [name for node in model.graph.node for name in node.output]
    if output not in inner:
        near = ", ".join(inner[-3:])
        raise ModelError(f"{file}: no tensor {output!r} in the graph; its last ones are {near}.")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    return model
