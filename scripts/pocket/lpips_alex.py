"""LPIPS with AlexNet (Zhang et al. 2018, version 0.1), read from assets/lpips."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from pictures import ASSETS

# torchvision's numbering: index, stride, padding
LAYERS = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))


class LpipsAlex(torch.nn.Module):
    """Distance between pictures (n, 3, h, w) in [-1, 1]; one number each."""

    def __init__(self, path: Path = ASSETS / "lpips/lpips_alex.safetensors"):
        super().__init__()
        for name, tensor in load_file(path).items():
            self.register_buffer(name.replace(".", "_"), tensor)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[None, :, None, None])

    def features(self, rgb: torch.Tensor) -> list:
        """relu1 … relu5."""
        x, found = (rgb - self.shift) / self.scale, []
        for i, (index, stride, padding) in enumerate(LAYERS):
            if i in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            weight, bias = getattr(self, f"net_features_{index}_weight"), getattr(self, f"net_features_{index}_bias")
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            found.append(x)
        return found

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        total = 0
        for i, (fa, fb) in enumerate(zip(self.features(a), self.features(b))):
            fa, fb = (f / (f.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for f in (fa, fb))
            weight = getattr(self, f"lin{i}_model_1_weight").reshape(1, -1, 1, 1)
            total = total + ((fa - fb).pow(2) * weight).sum(1, keepdim=True).mean((2, 3))
        return total.flatten()
