"""The emoji as tensors: reading, compositing, augmentation, contact sheets.

Shapes: rgba (n, 4, h, w) premultiplied in [0, 1]; rgb (n, 3, h, w) in [-1, 1].
"""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image

ASSETS = Path(__file__).resolve().parents[2] / "assets"
POCKET = ASSETS / "pocket"
PASTELS = (
    torch.tensor(
        [
            [255, 255, 255],
            [255, 255, 255],
            [255, 255, 255],
            [255, 240, 225],
            [228, 240, 255],
            [230, 248, 232],
            [248, 232, 248],
            [255, 250, 220],
            [236, 236, 240],
            [222, 246, 246],
        ],
        dtype=torch.float32,
    )
    / 255.0
)


def read_emoji_table(path: Path = POCKET / "data/pocket_emoji.parquet"):
    """(rgba, rows): every picture of a Parquet file, and what is known about it."""
    rows = pq.read_table(path).to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row.pop("image"))).convert("RGBA")) for row in rows])
    rgba = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255.0
    rgba[:, :3] *= rgba[:, 3:]
    return rgba, rows


def composite(rgba: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """Pictures on plain colours; background is (n, 3) in [0, 1]. Result in [0, 1]."""
    return rgba[:, :3] + (1 - rgba[:, 3:]) * background[:, :, None, None]


def on_white(rgba: torch.Tensor) -> torch.Tensor:
    """Pictures on white in [-1, 1], as everything is evaluated."""
    return composite(rgba, torch.ones(len(rgba), 3, device=rgba.device)) * 2 - 1


def augment(rgba: torch.Tensor, white: bool = False) -> torch.Tensor:
    """A small shift, scale and flip on a pastel or white background, in [-1, 1]."""
    n, device = len(rgba), rgba.device
    flip = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
    scale = 1 + torch.rand(n, device=device) * 0.22 - 0.04  # mostly zooms out a little
    affine = torch.zeros(n, 2, 3, device=device)
    affine[:, 0, 0], affine[:, 1, 1] = scale * flip, scale
    affine[:, :, 2] = (torch.rand(n, 2, device=device) - 0.5) * 0.14
    grid = F.affine_grid(affine, rgba.shape, align_corners=False)
    moved = F.grid_sample(rgba, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if white:
        return on_white(moved)
    background = PASTELS[torch.randint(len(PASTELS), (n,))].to(device)
    shade = 0.03 * torch.rand(n, 3, device=device) * torch.randint(2, (n, 1), device=device)
    return composite(moved, (background - shade * (background < 1)).clamp(0, 1)) * 2 - 1


def blur(rgb: torch.Tensor, factor: int) -> torch.Tensor:
    """Halved (or quartered) and brought back."""
    return F.interpolate(F.avg_pool2d(rgb, factor), scale_factor=factor, mode="bilinear", align_corners=False)


def psnr(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio per picture in dB, for pictures in [-1, 1]."""
    error = ((a.clamp(-1, 1) - b.clamp(-1, 1)) / 2).pow(2).flatten(1).mean(1)
    return -10 * torch.log10(error.clamp_min(1e-10))


def contact_sheet(rgb: torch.Tensor, columns: int, path: Path, gap: int = 2, zoom: int = 2) -> None:
    """A PNG of pictures in [-1, 1] side by side."""
    pixels = ((rgb.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    count, height, width, _ = pixels.shape
    lines = -(-count // columns)
    sheet = np.full((lines * (height + gap) + gap, columns * (width + gap) + gap, 3), 90, np.uint8)
    for i, picture in enumerate(pixels):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).resize((sheet.shape[1] * zoom, sheet.shape[0] * zoom), Image.NEAREST).save(path)
