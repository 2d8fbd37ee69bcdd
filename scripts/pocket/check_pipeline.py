"""Look at a family: samples from text, DDIM inversion and back on held-out faces, noise prediction on held-out latents.

    python check_pipeline.py --root ../../assets/pocket --out sheets
    python check_pipeline.py --unet ANOTHER/unet        # compare two UNets by their checks.json

Everything is seeded, so two UNets see the same noise at the same timesteps.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from captions import canonical
from lpips_alex import LpipsAlex
from pictures import POCKET, contact_sheet, on_white, psnr, read_emoji_table
from training import save_json

PROMPTS = [
    "a 3d emoji of a grinning face",
    "a flat emoji of a grinning face",
    "a soft emoji of a grinning face",
    "a flat emoji of a crying face",
    "a flat emoji of a sad face",
    "a 3d emoji of an angry face",
    "a flat emoji evoking sadness",
    "a flat emoji evoking amusement",
    "a flat emoji evoking fear",
    "a soft emoji evoking anger",
    "a flat emoji of a sleeping face",
    "a 3d emoji of a cat face",
    "a flat emoji of a monkey face",
    "a flat emoji of a woman",
    "a soft emoji of a dog face",
    "a flat emoji of a rocket",
]


class Family:
    """The networks of a folder in diffusers' layout."""

    def __init__(self, root: Path, unet: Path, device):
        load = lambda kind, folder: kind.from_pretrained(folder, torch_dtype=torch.float32).to(device).eval()
        self.device, self.tokenizer = device, CLIPTokenizer.from_pretrained(root / "tokenizer")
        self.encoder, self.vae = load(CLIPTextModel, root / "text_encoder"), load(AutoencoderKL, root / "vae")
        self.unet = load(UNet2DConditionModel, unet)
        self.schedule = DDIMScheduler.from_pretrained(root / "scheduler")

    def contexts(self, texts: list) -> torch.Tensor:
        """(texts, n, d)."""
        length = self.tokenizer.model_max_length
        ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length)["input_ids"]
        return self.encoder(torch.tensor(ids, device=self.device))[0]

    def latents(self, rgb: torch.Tensor) -> torch.Tensor:
        """Scaled posterior means."""
        return self.vae.encode(rgb).latent_dist.mode() * self.vae.config.scaling_factor

    def pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Decoded latents in [-1, 1]."""
        parts = [
            self.vae.decode(part / self.vae.config.scaling_factor).sample.clamp(-1, 1) for part in latents.split(16)
        ]
        return torch.cat(parts)

    def noise(self, latents, timestep: int, context, guidance: float = 1.0, empty=None) -> torch.Tensor:
        """Predicted noise, with classifier-free guidance where it is not 1."""
        timesteps = torch.full((len(latents),), timestep, device=self.device)
        conditioned = self.unet(latents, timesteps, context).sample
        if guidance == 1.0:
            return conditioned
        plain = self.unet(latents, timesteps, empty).sample
        return plain + guidance * (conditioned - plain)

    def move(self, latents, noise, start: int, end: int) -> torch.Tensor:
        """One deterministic DDIM step either way (Song et al. 2021, eq. 12); an end below 0 is the clean side."""
        alpha_bar = self.schedule.alphas_cumprod
        a, b = alpha_bar[start], alpha_bar[max(end, 0)]
        return b.sqrt() * (latents - (1 - a).sqrt() * noise) / a.sqrt() + (1 - b).sqrt() * noise


def sample(family: Family, timesteps: list, guidance: float) -> torch.Tensor:
    """Pictures for PROMPTS."""
    latents = torch.randn(len(PROMPTS), 4, 16, 16, device=family.device)
    contexts, empty = family.contexts(PROMPTS), family.contexts([""]).expand(len(PROMPTS), -1, -1)
    for start, end in zip(timesteps, timesteps[1:] + [-1]):
        latents = family.move(latents, family.noise(latents, start, contexts, guidance, empty), start, end)
    return family.pictures(latents)


def invert_and_return(family: Family, latents: torch.Tensor, timesteps: list) -> torch.Tensor:
    """DDIM inversion under the empty caption, and the way back."""
    empty = family.contexts([""]).expand(len(latents), -1, -1)
    upward = timesteps[::-1]
    for start, end in zip([0] + upward, upward):
        latents = family.move(latents, family.noise(latents, start, empty), start, end)
    for start, end in zip(timesteps, timesteps[1:] + [-1]):
        latents = family.move(latents, family.noise(latents, start, empty), start, end)
    return latents


def check_inversion(family: Family, rgb: torch.Tensor, timesteps: list, lpips: LpipsAlex):
    """(figures, contact sheet): how far a face is after inversion and back."""
    latents = family.latents(rgb)
    returned = torch.cat([invert_and_return(family, part, timesteps) for part in latents.split(16)])
    alone, back = family.pictures(latents), family.pictures(returned)
    figures = dict(
        n=len(rgb),
        lpips_vae_alone=lpips(alone, rgb).mean().item(),
        lpips=lpips(back, rgb).mean().item(),
        psnr_vae_alone=psnr(alone, rgb).mean().item(),
        psnr=psnr(back, rgb).mean().item(),
        latent_mse=(returned - latents).pow(2).mean().item(),
    )
    return {name: round(value, 5) for name, value in figures.items()}, torch.cat([rgb, alone, back])


def check_prediction(family: Family, rgb: torch.Tensor, captions: list) -> dict:
    """Epsilon MSE on held-out latents at eight timesteps with fixed noise, with own and with empty captions."""
    generator, latents = torch.Generator().manual_seed(0), family.latents(rgb)
    contexts, empty = family.contexts(captions), family.contexts([""]).expand(len(rgb), -1, -1)
    result = {}
    for name, context in (("captioned", contexts), ("empty_caption", empty)):
        generator.manual_seed(0)
        errors = {}
        for timestep in range(60, 1000, 125):
            noise = torch.randn(latents.shape, generator=generator).to(family.device)
            alpha = family.schedule.alphas_cumprod[timestep]
            noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
            found = [family.noise(z, timestep, c) for z, c in zip(noisy.split(64), context.split(64))]
            errors[timestep] = round((torch.cat(found) - noise).pow(2).mean().item(), 5)
        result[name] = dict(mean=round(sum(errors.values()) / len(errors), 5), by_timestep=errors)
    return dict(n=len(rgb), **result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=POCKET)
    parser.add_argument("--unet", type=Path, help="another UNet's folder (default: ROOT/unet)")
    parser.add_argument("--data", type=Path, default=POCKET / "data/pocket_emoji.parquet")
    parser.add_argument("--out", type=Path, default=Path("build/checks"))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--faces", type=int, default=26)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=["samples", "inversion", "prediction"],
        default=["samples", "inversion", "prediction"],
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    family = Family(args.root, args.unet or args.root / "unet", torch.device(args.device))
    family.schedule.set_timesteps(args.steps)
    timesteps = family.schedule.timesteps.tolist()
    rgba, rows = read_emoji_table(args.data)
    faces = [i for i, row in enumerate(rows) if row["kind"] == "face" and row["split"] == "test"]
    faces = [faces[k * len(faces) // args.faces] for k in range(min(args.faces, len(faces)))]
    rgb = on_white(rgba[faces].to(args.device))
    result = dict(steps=args.steps)
    if "samples" in args.only:
        contact_sheet(sample(family, timesteps, args.guidance), 8, args.out / "samples.png", zoom=3)
    if "inversion" in args.only:
        result["inversion"], pictures = check_inversion(family, rgb, timesteps, LpipsAlex().to(args.device))
        contact_sheet(pictures, len(rgb), args.out / "inversion.png")
    if "prediction" in args.only:
        held_out = [i for i, row in enumerate(rows) if row["split"] == "test"]
        result["prediction"] = check_prediction(
            family, on_white(rgba[held_out].to(args.device)), [canonical(rows[i]) for i in held_out]
        )
    save_json(args.out / "checks.json", result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
