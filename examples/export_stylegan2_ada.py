"""Make a StyleGAN2-ADA network a generator file for ``kdedge data generate``.

Run it where NVIDIA's stylegan2-ada-pytorch can be imported, since its pickles hold its classes; load only files you trust:

    PYTHONPATH=stylegan2-ada-pytorch python export_stylegan2_ada.py ffhq.pkl ffhq.pt
    kdedge data generate --generator ffhq.pt --truncation 0.7 --seeds 0:102400 --size 224 --shards --out faces/
"""

import pickle
import sys
from pathlib import Path

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """Latents (B, z_dim), psi and, where there are classes, one-hot rows c (B, c_dim) to images in -1 to 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, psi: Tensor, c: Tensor | None = None) -> Tensor:
        # const: a seed is one image; fused modulation would fix the batch size in the trace
        options = {"noise_mode": "const", "force_fp32": True, "fused_modconv": False}
        images: Tensor = self.network(z, z[:, :0] if c is None else c, truncation_psi=psi, **options)
        return images


def export(source: Path, out: Path) -> None:
    """Trace ``G_ema`` of a network pickle on the CPU, whose plain PyTorch operations run anywhere."""
    with source.open("rb") as file:
        network = pickle.load(file)["G_ema"]
    network = network.eval().requires_grad_(False).float().cpu()
    shown = [torch.randn(2, network.z_dim), torch.tensor(0.7)]
    shown += [torch.zeros(2, network.c_dim)] if network.c_dim else []
    torch.jit.trace(Generator(network), tuple(shown)).save(str(out))


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"wrote {sys.argv[2]}: kdedge data generate --generator {sys.argv[2]} --out images/")
