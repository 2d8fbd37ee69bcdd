"""The pictures that the judge learns from, and what is done to them so that artefacts alone are no emotion.

Five variants of each picture: plain; moved and blurred; colours turned; a noisy trip through the VAE with
colours turned; a noisy trip through the VAE. The trips are slow, so only faces in the family's own styles take them.
"""

import math

import torch
import torch.nn.functional as F

from pictures import augment, blur, on_white


def turn_colours(rgb: torch.Tensor) -> torch.Tensor:
    """Random hue (± 34°), saturation (0 … 1.3) and brightness (0.8 … 1.2), so that colour alone decides nothing."""
    n = len(rgb)
    angle = (torch.rand(n) - 0.5) * 1.2
    cos, sin, third, root = angle.cos(), angle.sin(), 1 / 3, math.sqrt(1 / 3)
    same, up, down = cos + (1 - cos) * third, third * (1 - cos) + root * sin, third * (1 - cos) - root * sin
    turn = torch.stack([same, down, up, up, same, down, down, up, same], -1).view(n, 3, 3)
    pixels = torch.einsum("nij,njhw->nihw", turn, (rgb + 1) / 2)
    grey = pixels.mean(1, keepdim=True)
    pixels = grey + (pixels - grey) * torch.rand(n, 1, 1, 1) * 1.3
    return (pixels * (0.8 + 0.4 * torch.rand(n, 1, 1, 1)) * 2 - 1).clamp(-1, 1)


def half_blurred(rgb: torch.Tensor) -> torch.Tensor:
    """Half of the batch at half the resolution."""
    return torch.where(torch.rand(len(rgb), 1, 1, 1) < 0.5, blur(rgb, 2), rgb)


def noisy_round_trip(vae, rgb: torch.Tensor, amount: float) -> torch.Tensor:
    """Through the VAE with blotchy noise on the latents, of 0 … `amount` of their spread."""
    latents = vae.encode(rgb).latent_dist.mean
    blotches = F.interpolate(torch.randn(len(latents), 4, 4, 4), size=16, mode="bilinear")
    noise = blotches + 0.5 * torch.randn_like(latents)
    strength = amount * latents.std() * torch.rand(len(latents), 1, 1, 1)
    return vae.decode(latents + strength * noise).sample.clamp(-1, 1)


def mixed(rgba, chosen, treat, treat_others) -> torch.Tensor:
    """One treatment for the chosen pictures, another for the rest."""
    result = torch.empty(len(rgba), 3, *rgba.shape[2:])
    for part, function in ((chosen, treat), (~chosen, treat_others)):
        if part.any():
            result[part] = function(rgba[part])
    return result


def variants(vae) -> list:
    """Functions of (rgba, trips) that give pictures in [-1, 1]; the first is the plain one.

    `trips` marks the pictures that go through the VAE.
    """
    moved = lambda rgba: half_blurred(augment(rgba))
    turned = lambda rgba: turn_colours(augment(rgba))
    trip = lambda rgba: noisy_round_trip(vae, augment(rgba), 0.5)
    turned_trip = lambda rgba: turn_colours(noisy_round_trip(vae, augment(rgba, white=True), 0.4))
    return [
        lambda rgba, trips: on_white(rgba),
        lambda rgba, trips: moved(rgba),
        lambda rgba, trips: turned(rgba),
        lambda rgba, trips: mixed(rgba, trips, turned_trip, turned),
        lambda rgba, trips: mixed(rgba, trips, trip, moved),
    ]
