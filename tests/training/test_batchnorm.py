"""Statistics in float64, and the paper's failure in small: outputs that explode in eval mode."""

import numpy as np
import pytest
import torch
from torch import nn

from kdedge.preprocess import Preprocess
from kdedge.training.activations import ViewBank
from kdedge.training.batchnorm import FLOOR, mixed_batches, reestimate
from kdedge.training.engine import Engine
from kdedge.training.metrics import cosine_similarity, r2_variance_weighted
from kdedge.training.pretrain import settle_batchnorm
from kdedge.training.source import ViewSource
from kdedge.training.supervised import settle
from tests.training.conftest import Tiny


def batches(count: int = 5, size: int = 12, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 + 2 * torch.randn(size, 3, 16, 16, generator=generator) for _ in range(count)]


def test_statistics_are_the_plain_average_over_batches():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    norm.running_mean.fill_(99)
    norm.running_var.fill_(99)
    norm.num_batches_tracked.fill_(7)
    given = batches()
    reestimate(nn.Sequential(norm), given)
    wide = [batch.numpy().astype(np.float64) for batch in given]
    mean = np.mean([x.mean((0, 2, 3)) for x in wide], 0)
    variance = np.mean([x.var((0, 2, 3), ddof=1) for x in wide], 0)  # torch keeps the unbiased estimate
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-5)


def test_deeper_norms_see_what_they_see_in_training():
    """The second norm's statistics belong to inputs that the first one normalised by its batch."""
    torch.manual_seed(0)
    trunk = Tiny()
    given = batches(3)
    seen = []
    trunk.layers[4].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().double()))
    reestimate(trunk, given)
    wanted = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    np.testing.assert_allclose(trunk.layers[4].running_mean.double().numpy(), wanted.numpy(), rtol=1e-4, atol=1e-6)


def test_it_leaves_eval_mode_weights_momenta_and_dropout_alone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.01), nn.Dropout(0.5))
    before = {key: value.clone() for key, value in network.named_parameters()}
    reestimate(network.train(), batches(2))
    assert not any(module.training for module in network.modules())
    assert network[1].momentum == 0.01
    for key, value in network.named_parameters():
        assert torch.equal(value, before[key])
    first = network(batches(1)[0])
    assert torch.equal(first, network(batches(1)[0]))  # dropout is off


def test_without_batches_nothing_changes():
    network = nn.Sequential(nn.BatchNorm2d(3)).train()
    network[0].running_mean.fill_(4)
    reestimate(network, [])
    assert (network[0].running_mean == 4).all()
    assert network[0].momentum == 0.1
    reestimate(nn.Linear(2, 2), batches(1))  # no norms at all


def test_the_papers_failure_and_its_cure():
    """Statistics that lag behind make R2 hugely negative at a fair cosine; measured again, both are as in training."""
    torch.manual_seed(0)
    network = nn.Sequential(Tiny(), nn.Linear(8, 5))
    given = torch.cat(batches(6))
    network.train()
    with torch.no_grad():
        target = network(given)
    scale = target.std(0)
    target = ((target - target.mean(0)) / scale).numpy()
    network[1].weight.data /= scale[:, None]
    network[1].bias.data = (network[1].bias.data - network[1](torch.zeros(1, 8))[0]).detach()

    def scores() -> tuple[float, float]:
        network.eval()
        with torch.no_grad():
            predicted = network(given).numpy()
        predicted = predicted - predicted.mean(0)
        return r2_variance_weighted(target, predicted), cosine_similarity(target, predicted)

    for norm in (network[0].layers[1], network[0].layers[4]):
        norm.running_mean.zero_()
        norm.running_var.fill_(1e-3)  # a few channels of a lagging norm look like this
    r2, cosine = scores()
    assert r2 < -100
    assert cosine > 0.3
    reestimate(network, given.split(12))
    r2, cosine = scores()
    assert r2 > 0.9
    assert cosine > 0.95


def test_norms_of_vectors():
    norm = nn.BatchNorm1d(3)
    norm.running_mean.fill_(50)
    given = [torch.randn(20, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    reestimate(nn.Sequential(norm), given)
    wanted = torch.stack([x.double().mean(0) for x in given]).mean(0)
    np.testing.assert_allclose(norm.running_mean.numpy(), wanted.numpy(), atol=1e-6)


def test_batches_are_mixed_whatever_the_order_of_the_images():
    parts = mixed_batches(1000, 0, most=320)
    assert [len(part) for part in parts] == [64] * 5
    chosen = np.concatenate(parts)
    assert len(set(chosen.tolist())) == 320
    for part in parts:
        assert (np.diff(part) > 0).all()
        assert len(set((part // 100).tolist())) > 7  # of ten classes of a hundred sorted images
    assert [len(part) for part in mixed_batches(65, 0)] == [64]  # BatchNorm cannot use a single image
    assert not np.array_equal(chosen, np.concatenate(mixed_batches(1000, 1, most=320)))


@pytest.mark.parametrize("way", ["pretraining", "labels"])
def test_sorted_images_are_settled_like_mixed_ones(way):
    """A colour a class, sorted: the variance is that of all images, not that within a class, which is nothing."""
    shades = np.repeat(np.arange(0, 250, 25, dtype=np.uint8), 100)
    images = np.broadcast_to(shades[:, None, None, None], (1000, 4, 4, 3)).copy()
    norm, engine, preprocess = nn.BatchNorm2d(3), Engine(torch.device("cpu")), Preprocess(4, (0.0,) * 3, (1.0,) * 3)
    if way == "labels":
        settle(norm, ViewSource(images), preprocess, engine, 0)
    else:
        bank = ViewBank(images, np.zeros((1000, 2), np.float32), np.arange(1000))
        settle_batchnorm(norm, bank, np.arange(1000), preprocess, engine, 0)
    np.testing.assert_allclose(norm.running_var.numpy(), shades.astype(float).var(), rtol=0.1)


def test_a_channel_that_is_silent_for_nearly_all_images_does_not_explode():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6, affine=False)
    given = torch.randn(400, 6) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 0.0])
    reestimate(nn.Sequential(norm), given.split(50))
    variances = np.mean([x.double().var(0).numpy() for x in given.split(50)], 0)
    floor = FLOOR * np.sort(variances)[2]  # torch's median of six is the third
    np.testing.assert_allclose(norm.running_var.numpy(), np.maximum(variances, floor), rtol=1e-5)
    awake = torch.zeros(1, 6)
    awake[0, 5] = 3.0
    assert float(norm(awake)[0, 5]) < 6.0  # 949 with the epsilon alone
