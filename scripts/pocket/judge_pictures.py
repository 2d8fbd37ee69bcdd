"""What a judge learns from: people cut and degraded in many ways, and faces that nobody could read."""

import torch
import torch.nn.functional as F

from pictures import blurred, face_windows, from_pixels, mirrored, recoloured, through_windows

SIDE = 128
UNREADABLE = 0.08  # share of a batch
SMOOTHING = 0.05
WHOLE_FROM = 0.5  # the share of the time after which whole pictures are the rule


@torch.no_grad()
def as_seen(vae, rgb: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
    """Through the autoencoder; with noise on the latents (in their standard deviations) they come out blotched."""
    parts = []
    for part in rgb.split(32):
        latents = vae.encode(part).latent_dist.mode()
        latents = latents + noise * latents.std() * torch.randn_like(latents)
        parts.append(vae.decode(latents).sample.clamp(-1, 1))
    return torch.cat(parts)


def degraded(rgb: torch.Tensor) -> torch.Tensor:
    """Blur, noise and light on a part of the pictures."""
    draw = torch.rand(len(rgb), 1, 1, 1)
    rgb = torch.where(draw < 0.15, blurred(rgb, 2), rgb)
    rgb = rgb + torch.randn_like(rgb) * 0.1 * (torch.rand(len(rgb), 1, 1, 1) < 0.25)
    gain = 1 + 0.25 * (torch.rand(len(rgb), 1, 1, 1) - 0.5)
    return (rgb * gain + 0.2 * (torch.rand(len(rgb), 3, 1, 1) - 0.5)).clamp(-1, 1)


def face_masks(faces: torch.Tensor, side: int) -> torch.Tensor:
    """(n, 1, side, side) soft ellipses over the faces."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    cx, cy, width, height = faces[:, :, None, None].unbind(1)
    distance = ((x - cx) / (0.55 * width)) ** 2 + ((y - cy) / (0.55 * height)) ** 2
    return torch.sigmoid((1 - distance) * 6)[:, None]


def ruined(rgb: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Faces wiped, blotched or mixed with others': what an edit must not be counted for."""
    count, side = len(rgb), rgb.shape[-1]
    mask = face_masks(faces, side)
    wiped = blurred(blurred(rgb, 8), 12)
    coarse = F.interpolate(torch.randn(count, 3, 12, 12), size=(side, side), mode="bicubic")
    blotched = (blurred(rgb, 4) + 0.7 * coarse).clamp(-1, 1)
    mixed = 0.5 * rgb.roll(1, 0).roll(side // 8, 3) + 0.5 * rgb.flip(2)
    draw = torch.rand(count, 1, 1, 1)
    instead = torch.where(draw < 0.45, wiped, torch.where(draw < 0.8, blotched, mixed))
    return rgb * (1 - mask) + instead * mask


class JudgePictures:
    """Batches of rgb (n, 3, 128, 128) with soft targets (n, classes)."""

    def __init__(self, people, vae, round_trips: int, labels: tuple, unreadable: float):
        self.people, self.faces, self.labels, self.unreadable = people, people.faces, labels, unreadable
        self.classes = torch.tensor([labels.index(row["emotion"]) for row in people.rows])
        self.seen_rows = torch.randperm(len(people))[: round_trips if vae is not None else 0]
        self.seen = self.through(vae) if len(self.seen_rows) else None

    def through(self, vae) -> torch.Tensor:
        """uint8 pictures after the autoencoder."""
        parts = [as_seen(vae, from_pixels(self.people.pixels[rows])) for rows in self.seen_rows.split(256)]
        return ((torch.cat(parts) + 1) * 127.5).round().byte()

    def draw(self, count: int, fraction: float):
        """A batch: a quarter from those that went through the autoencoder, some ruined."""
        chosen = torch.randint(len(self.people), (count,))
        pixels = self.people.pixels[chosen].clone()
        if self.seen is not None:
            which = torch.randint(len(self.seen_rows), (count // 4,))
            chosen[: count // 4] = self.seen_rows[which]
            pixels[: count // 4] = self.seen[which]
        rgb, faces = from_pixels(pixels), self.faces[chosen]
        bad = torch.rand(count) < self.unreadable
        rgb = torch.where(bad[:, None, None, None], ruined(rgb, faces), rgb)
        rgb = through_windows(rgb, face_windows(faces, fraction / WHOLE_FROM), SIDE)
        targets = torch.full((count, len(self.labels)), SMOOTHING / len(self.labels))
        truth = torch.where(bad, self.labels.index("unreadable"), self.classes[chosen])
        targets.scatter_add_(1, truth[:, None], torch.full((count, 1), 1 - SMOOTHING))
        return degraded(recoloured(mirrored(rgb), 0.1)), targets
