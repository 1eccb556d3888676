"""Inception-V3's second head."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdedge.preprocess import Preprocess
from kdedge.training.auxiliary import AuxiliaryStudent
from kdedge.training.engine import Engine
from kdedge.training.loop import LoopConfig
from kdedge.training.source import ViewSource
from kdedge.training.students import Student, build_student
from kdedge.training.supervised import fit_classifier, start_classifier

LOOP = LoopConfig(1, batch=2, lr=1e-3, evaluations=1)


@pytest.fixture(scope="module")
def inception() -> Student:
    torch.manual_seed(0)
    return build_student("torchvision/inception_v3", 3, "random", 299)


def test_it_is_there_only_where_it_fits_and_where_something_is_trained(inception: Student) -> None:
    engine = Engine(torch.device("cpu"), "fp32")

    def begun(freeze: bool, size: int) -> torch.nn.Module:
        return start_classifier(copy.deepcopy(inception), LOOP, engine, freeze, size).model

    assert isinstance(begun(False, 299), AuxiliaryStudent)
    assert not isinstance(begun(False, 128), AuxiliaryStudent)
    assert not isinstance(begun(True, 299), AuxiliaryStudent)


def test_loss_is_that_of_both_heads_and_the_second_is_gone_afterwards(inception: Student) -> None:
    engine = Engine(torch.device("cpu"), "fp32")
    images = np.random.default_rng(0).integers(0, 256, (2, 299, 299, 3), np.uint8)
    labels = np.array([0, 2])
    state = start_classifier(copy.deepcopy(inception), LOOP, engine, size=299)
    network = state.model
    assert isinstance(network, AuxiliaryStudent)
    twin = copy.deepcopy(network).train()
    twin.trunk.dropout.p = 0.0  # type: ignore[union-attr]
    network.trunk.dropout.p = 0.0  # type: ignore[union-attr]
    first = network.auxiliary.conv0.conv.weight.detach().clone()
    kept: list[Student] = []
    records: list[dict[str, float]] = []
    done = fit_classifier(
        state,
        ViewSource(images),
        labels,
        Preprocess(299),
        LOOP,
        engine,
        validation=(images, labels),
        log=records.append,
        keep=lambda student, _: kept.append(student),
    )
    x = torch.from_numpy(Preprocess(299).normalize(images))
    with torch.no_grad():
        logits, second = twin.both(x)
    expected = F.cross_entropy(logits, torch.from_numpy(labels)) + 0.4 * F.cross_entropy(
        second, torch.from_numpy(labels)
    )
    assert next(r["loss"] for r in records if "loss" in r) == pytest.approx(float(expected), rel=1e-3)
    assert not torch.equal(network.auxiliary.conv0.conv.weight, first)  # it learned, too
    names = {name.split(".")[0] for student in (done.student, *kept) for name in student.state_dict()}
    assert names == {"trunk", "head"}
    assert type(done.student) is Student
