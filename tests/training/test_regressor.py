"""The network of pre-training and its projector."""

import torch
from torch import nn

from kdedge.training.regressor import Regressor
from tests.training.conftest import Tiny, pictures


def batch(count: int = 64) -> torch.Tensor:
    return torch.from_numpy(pictures(count)).permute(0, 3, 1, 2).float() / 128 - 1


def test_the_plain_adapter_is_linear_and_adds_no_other_state():
    regressor = Regressor(Tiny(), 8, 5)
    assert {key for key in regressor.state_dict() if not key.startswith("trunk.")} == {"adapter.weight", "adapter.bias"}
    regressor.eval()
    x = batch(4)
    expected = regressor.trunk(x) @ regressor.adapter.weight.T + regressor.adapter.bias
    torch.testing.assert_close(regressor(x), expected)


def test_the_normalised_projector_gives_mean_0_and_variance_1():
    regressor = Regressor(Tiny(), 8, 5, normalised=True)
    found = regressor(batch())
    torch.testing.assert_close(found.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var(0, correction=0), torch.ones(5), atol=5e-3, rtol=0)
    assert not list(regressor.norm.parameters())
    assert isinstance(regressor.adapter, nn.Linear)
