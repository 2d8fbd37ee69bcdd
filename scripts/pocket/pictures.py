"""The people's pictures as tensors: reading Parquet, crops, photographs, degradations, contact sheets.

Shapes: pixels (n, 3, h, w) uint8; rgb (n, 3, h, w) in [-1, 1]. A face is the box in which the expression is drawn:
centre x, centre y, width and height as shares of the side.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image

ASSETS = Path(__file__).resolve().parents[2] / "assets"
FAMILY = ASSETS / "pocket"
EXPRESSIONS = ("neutral", "amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness")


@dataclass
class People:
    """Pictures and what is known of each."""

    pixels: torch.Tensor  # (n, 3, h, w) uint8
    rows: list[dict]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def expressions(self) -> torch.Tensor:
        """(n) index into EXPRESSIONS."""
        return torch.tensor([EXPRESSIONS.index(row["emotion"]) for row in self.rows])

    @property
    def faces(self) -> torch.Tensor:
        """(n, 4) centre x, centre y, width, height."""
        left, top, right, bottom = torch.tensor([row["face"] for row in self.rows], dtype=torch.float32).unbind(1)
        box = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1)
        return box / self.pixels.shape[-1]

    def where(self, keep) -> "People":
        """The rows for which `keep(row)` holds."""
        chosen = [i for i, row in enumerate(self.rows) if keep(row)]
        return People(self.pixels[chosen], [self.rows[i] for i in chosen])

    def every(self, step: int) -> "People":
        """Each `step`-th picture."""
        return People(self.pixels[::step], self.rows[::step])


def read_people(*paths: Path) -> People:
    """Every picture of one or several Parquet files."""
    pixels, rows = [], []
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=512):
            part = batch.to_pylist()
            pixels.append(torch.stack([decoded(row.pop("image")) for row in part]))
            rows += part
    return People(torch.cat(pixels), rows)


def decoded(image) -> torch.Tensor:
    """(3, h, w) uint8 of bytes, or of Hugging Face's struct that holds them."""
    encoded = image["bytes"] if isinstance(image, dict) else image
    return torch.from_numpy(np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))).permute(2, 0, 1)


def from_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 → [-1, 1]."""
    return pixels.float() / 127.5 - 1


def crops_around(pixels: torch.Tensor, centres: torch.Tensor, side: int) -> torch.Tensor:
    """Square crops near the given centres (n, 2: x, y as shares of the side), inside the picture."""
    height, width = pixels.shape[2:]
    left = (centres[:, 0] * width - side / 2).round().long().clamp(0, width - side)
    top = (centres[:, 1] * height - side / 2).round().long().clamp(0, height - side)
    return torch.stack([p[:, y : y + side, x : x + side] for p, x, y in zip(pixels, left.tolist(), top.tolist())])


def face_crops(pixels: torch.Tensor, faces: torch.Tensor, side: int) -> torch.Tensor:
    """Crops around the faces, shifted a little at random."""
    return crops_around(pixels, faces[:, :2] + (torch.rand(len(faces), 2) - 0.5) * 0.25, side)


def face_windows(faces: torch.Tensor, wide: float) -> torch.Tensor:
    """Affine windows (n, 2, 3): close around the faces where `wide` is 0, mostly whole pictures where it is 1."""
    count = len(faces)
    centre = faces[:, :2] * 2 - 1  # in [-1, 1]
    near = faces[:, 2:].amax(1) * (1.15 + 0.5 * torch.rand(count))
    whole = 0.9 + 0.2 * torch.rand(count)
    share = torch.where(torch.rand(count) < 0.7, torch.ones(count), torch.rand(count)) * min(1.0, wide)
    half = near + (whole - near) * share
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = half, half
    theta[:, :, 2] = centre * (1 - share)[:, None] + (torch.rand(count, 2) - 0.5) * 0.14
    return theta


def through_windows(rgb: torch.Tensor, windows: torch.Tensor, side: int) -> torch.Tensor:
    """What each window shows, (n, 3, side, side)."""
    grid = F.affine_grid(windows, (len(rgb), 3, side, side), align_corners=False)
    return F.grid_sample(rgb, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def mirrored(rgb: torch.Tensor) -> torch.Tensor:
    """Half of the pictures, flipped left to right."""
    return torch.where(torch.rand(len(rgb), 1, 1, 1, device=rgb.device) < 0.5, rgb.flip(3), rgb)


def recoloured(rgb: torch.Tensor, share: float) -> torch.Tensor:
    """A share of the pictures with permuted channels, changed contrast and tint, so that colours are independent."""
    order = torch.stack([torch.randperm(3, device=rgb.device) for _ in range(len(rgb))])
    permuted = rgb.gather(1, order[:, :, None, None].expand_as(rgb))
    gain = 1 + 0.5 * (torch.rand(len(rgb), 1, 1, 1, device=rgb.device) - 0.6)
    tint = 0.3 * (torch.rand(len(rgb), 3, 1, 1, device=rgb.device) - 0.5)
    chosen = torch.rand(len(rgb), 1, 1, 1, device=rgb.device) < share
    return torch.where(chosen, (permuted * gain + tint).clamp(-1, 1), rgb)


class Photographs:
    """Crops of photographs at random scales."""

    def __init__(self, folder: Path, names: list[str]):
        opened = [Image.open(folder / name).convert("RGB") for name in names]
        self.sizes = [
            [np.asarray(photo.resize((int(photo.width * h / photo.height), h), Image.LANCZOS)) for h in (110, 200, 360)]
            for photo in opened
        ]

    def crops(self, count: int, side: int) -> torch.Tensor:
        """(count, 3, side, side) uint8."""
        return torch.stack([self.crop(side) for _ in range(count)])

    def crop(self, side: int) -> torch.Tensor:
        """One crop of one photograph at one of its sizes."""
        sizes = self.sizes[torch.randint(len(self.sizes), ()).item()]
        photo = sizes[torch.randint(len(sizes), ()).item()]
        y, x = (torch.randint(n - side + 1, ()).item() for n in photo.shape[:2])
        return torch.from_numpy(photo[y : y + side, x : x + side].copy()).permute(2, 0, 1)


def blurred(rgb: torch.Tensor, factor: int) -> torch.Tensor:
    """Reduced by a factor and brought back."""
    return F.interpolate(F.avg_pool2d(rgb, factor), size=rgb.shape[2:], mode="bilinear", align_corners=False)


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
