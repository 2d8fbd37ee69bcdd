"""Measure and look at the people's family: samples from captions, DDIM inversion and back, the autoencoder, by both judges.

    python check_family.py --root ../../assets/pocket --test people/test.parquet --out build/checks

Everything is seeded, so two UNets see the same noise.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from judge_pictures import as_seen
from lpips_alex import LpipsAlex
from pictures import EXPRESSIONS, FAMILY, contact_sheet, from_pixels, psnr, read_people
from train_judge import LABELS, AlexNetMlp, ResNet18
from training import save_json


class Family:
    """The networks of a folder in diffusers' layout."""

    def __init__(self, root: Path, unet: Path):
        self.tokenizer = CLIPTokenizer.from_pretrained(root / "tokenizer")
        load = lambda kind, folder: kind.from_pretrained(folder, torch_dtype=torch.float32).eval()
        self.encoder, self.vae = load(CLIPTextModel, root / "text_encoder"), load(AutoencoderKL, root / "vae")
        self.unet = load(UNet2DConditionModel, unet)
        self.schedule = DDIMScheduler.from_pretrained(unet.parent / "scheduler")

    def contexts(self, texts: list) -> torch.Tensor:
        """(texts, n, d)."""
        length = self.tokenizer.model_max_length
        ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length)["input_ids"]
        return self.encoder(torch.tensor(ids))[0]

    def latents(self, rgb: torch.Tensor) -> torch.Tensor:
        """Scaled posterior means."""
        return self.vae.encode(rgb).latent_dist.mode() * self.vae.config.scaling_factor

    def pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Decoded latents in [-1, 1]."""
        factor = self.vae.config.scaling_factor
        return torch.cat([self.vae.decode(part / factor).sample.clamp(-1, 1) for part in latents.split(32)])

    def noise(self, latents, timestep: int, context, guidance: float = 1.0, empty=None) -> torch.Tensor:
        """Predicted noise, with classifier-free guidance where it is not 1."""
        timesteps = torch.full((len(latents),), timestep)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            conditioned = self.unet(latents, timesteps, context).sample.float()
            if guidance == 1.0:
                return conditioned
            plain = self.unet(latents, timesteps, empty.expand(len(latents), -1, -1)).sample.float()
        return plain + guidance * (conditioned - plain)

    def move(self, latents, noise, start: int, end: int) -> torch.Tensor:
        """One deterministic DDIM step either way (Song et al. 2021, eq. 12); an end below 0 is the clean side."""
        alpha_bar = self.schedule.alphas_cumprod
        a, b = alpha_bar[start], alpha_bar[max(end, 0)]
        return b.sqrt() * (latents - (1 - a).sqrt() * noise) / a.sqrt() + (1 - b).sqrt() * noise

    def sample(self, captions: list, latents: torch.Tensor, timesteps: list, guidance: float) -> torch.Tensor:
        """Pictures of the captions from the given noise."""
        contexts, empty = self.contexts(captions), self.contexts([""])
        for start, end in zip(timesteps, timesteps[1:] + [-1]):
            latents = self.move(latents, self.noise(latents, start, contexts, guidance, empty), start, end)
        return self.pictures(latents)

    def there_and_back(self, latents: torch.Tensor, timesteps: list) -> torch.Tensor:
        """DDIM inversion under the empty caption, and the way back."""
        empty, upward = self.contexts([""]).expand(len(latents), -1, -1), timesteps[::-1]
        for start, end in zip([0] + upward, upward):
            latents = self.move(latents, self.noise(latents, start, empty), start, end)
        for start, end in zip(timesteps, timesteps[1:] + [-1]):
            latents = self.move(latents, self.noise(latents, start, empty), start, end)
        return latents


def read_judge(folder: Path):
    """A judge as train_judge.py saved it."""
    config = json.loads((folder / "config.json").read_text())
    resnet = config["architecture"] == "resnet18"
    model = ResNet18(config["width"], len(LABELS)) if resnet else AlexNetMlp(config["head"][1], len(LABELS))
    model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()}, strict=False)
    return model.eval()


def told(judges: dict, rgb: torch.Tensor) -> dict:
    """{judge: (n) index into LABELS}."""
    return {name: torch.cat([judge.at_test(p).argmax(1) for p in rgb.split(64)]) for name, judge in judges.items()}


def shares(judges: dict, rgb: torch.Tensor, asked: list) -> dict:
    """How often each judge reads what was asked for: in all, and by expression."""
    wanted, result = torch.tensor([LABELS.index(e) for e in asked]), {}
    for name, found in told(judges, rgb).items():
        right = (found == wanted).float()
        each = {e: round(right[wanted == LABELS.index(e)].mean().item(), 3) for e in dict.fromkeys(asked)}
        result[name] = dict(n=len(asked), share=round(right.mean().item(), 4), by_expression=each)
    return result


def check_samples(family: Family, test, judges: dict, args, timesteps: list) -> dict:
    """Captions of the eight expressions on sampled persons: one noise a person, only the caption's looks differ."""
    subjects = list(dict.fromkeys(row["subject"] for row in test.rows))[:: args.stride][: args.persons]
    rows = {(row["subject"], row["emotion"]): row for row in reversed(test.rows)}
    captions, asked, noise = [], [], []
    for number, subject in enumerate(subjects):
        one = torch.randn(4, 24, 24, generator=torch.Generator().manual_seed(number))
        for emotion in EXPRESSIONS[1:]:
            row = rows.get((subject, emotion))
            if row is not None:
                captions.append(f"a person, {row['looks']}, {row['place']}")
                asked.append(emotion)
                noise.append(one)
    noise = torch.stack(noise)
    parts = [
        family.sample(captions[i : i + 64], noise[i : i + 64], timesteps, args.guidance)
        for i in range(0, len(captions), 64)
    ]
    rgb = torch.cat(parts)
    contact_sheet(rgb[:96], 8, args.out / "samples.png", zoom=1)
    return shares(judges, rgb, asked)


def check_inversion(family: Family, rgb: torch.Tensor, timesteps: list, lpips: LpipsAlex, args) -> dict:
    """How far a picture is after inversion and back."""
    latents = family.latents(rgb)
    returned = torch.cat([family.there_and_back(part, timesteps) for part in latents.split(32)])
    alone, back = family.pictures(latents), family.pictures(returned)
    contact_sheet(torch.cat([rgb[:16], alone[:16], back[:16]]), 16, args.out / "inversion.png", zoom=1)
    figures = dict(
        n=len(rgb),
        lpips_vae_alone=lpips(alone, rgb).mean().item(),
        lpips=lpips(back, rgb).mean().item(),
        psnr_vae_alone=psnr(alone, rgb).mean().item(),
        psnr=psnr(back, rgb).mean().item(),
    )
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=FAMILY)
    parser.add_argument("--unet", type=Path, help="another UNet's folder (default: ROOT/unet)")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--judges", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("build/checks"))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--persons", type=int, default=64)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--inverted", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=["autoencoder", "samples", "inversion"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    test, judges = read_people(args.test), {folder.name: read_judge(folder) for folder in args.judges}
    family, result = Family(args.root, args.unet or args.root / "unet"), {}
    family.schedule.set_timesteps(args.steps)
    timesteps = family.schedule.timesteps.tolist()
    if "autoencoder" in args.only:
        rgb = as_seen(family.vae, from_pixels(test.pixels))
        result["autoencoder"] = shares(judges, rgb, [row["emotion"] for row in test.rows])
    if "samples" in args.only:
        result["samples"] = check_samples(family, test, judges, args, timesteps)
    if "inversion" in args.only:
        some = test.pixels[:: max(1, len(test) // args.inverted)][: args.inverted]
        result["inversion"] = check_inversion(family, from_pixels(some), timesteps, LpipsAlex(), args)
    save_json(args.out / "checks.json", result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
