"""Train the latent UNet (epsilon prediction, Stable Diffusion's schedule) on the emoji; the averaged weights are saved.

    python train_unet.py --minutes 50
    python train_unet.py --init ../../assets/pocket/unet --rate 3e-4 --minutes 72 --threads 1

Min-SNR weighting (Hang et al. 2023) with gamma 5, captions dropped for one sample in ten (Ho and Salimans 2022).
Latents and encoded captions are computed once; a few latents are renewed with fresh augmentation as it goes.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from captions import canonical, caption
from pictures import POCKET, augment, read_emoji_table
from training import Average, Clock, add_arguments, anneal, save_half, save_json, set_rate, start, autocast

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def new_unet(channels, heads: int, context: int) -> UNet2DConditionModel:
    """Stable Diffusion 1's UNet with one level less and narrow; `heads` carries SD 1's historical key name."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=tuple(channels),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=context,
        attention_head_dim=heads,
    )


def sd_schedule() -> DDIMScheduler:
    """Stable Diffusion's scaled-linear schedule with DDIM's settings."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class Captions:
    """Several encoded captions for each picture, and the empty one."""

    @torch.no_grad()
    def __init__(self, root: Path, rows: list, count: int, rng: random.Random, device):
        tokenizer = CLIPTokenizer.from_pretrained(root / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(root / "text_encoder", torch_dtype=torch.float32).to(device).eval()

        def encode(texts):
            length = tokenizer.model_max_length
            ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length)["input_ids"]
            return encoder(torch.tensor(ids, device=device))[0]

        self.empty = encode([""])  # (1, n, d)
        parts = []
        for first in range(0, len(rows), 64):
            part = rows[first : first + 64]
            texts = [canonical(row) if k == 0 else caption(row, rng, 0.35) for row in part for k in range(count)]
            parts.append(encode(texts).half().unflatten(0, (len(part), count)))
        self.encoded = torch.cat(parts)  # (pictures, count, n, d)
        self.width = self.encoded.shape[-1]

    def draw(self, chosen: torch.Tensor, drop: float) -> torch.Tensor:
        """One random caption for each chosen picture, some of them empty."""
        which = torch.randint(self.encoded.shape[1], (len(chosen),), device=chosen.device)
        dropped = torch.rand(len(chosen), 1, 1, device=chosen.device) < drop
        return torch.where(dropped, self.empty, self.encoded[chosen, which].float())


class Latents:
    """Scaled posteriors of several augmentations of each picture."""

    def __init__(self, root: Path, rgba: torch.Tensor, variants: int, args):
        self.vae = AutoencoderKL.from_pretrained(root / "vae", torch_dtype=torch.float32).to(rgba.device).eval()
        self.rgba, self.variants, self.args = rgba, variants, args
        self.mean = torch.empty(len(rgba), variants, 4, 16, 16, dtype=torch.float16, device=rgba.device)
        self.std = torch.empty_like(self.mean)
        for variant in range(variants):
            for part in torch.arange(len(rgba), device=rgba.device).split(64):
                self.renew(part, variant)

    @torch.no_grad()
    def renew(self, chosen: torch.Tensor, variant: int) -> None:
        """Encode a fresh augmentation of the chosen pictures; variant 0 stays on white."""
        with autocast(self.args):
            posterior = self.vae.encode(augment(self.rgba[chosen], white=variant == 0)).latent_dist
        factor = self.vae.config.scaling_factor
        self.mean[chosen, variant] = (posterior.mean.float() * factor).half()
        self.std[chosen, variant] = (posterior.std.float() * factor).half()

    def draw(self, chosen: torch.Tensor) -> torch.Tensor:
        """One sample of the posterior for each chosen picture."""
        which = torch.randint(self.variants, (len(chosen),), device=chosen.device)
        mean, std = self.mean[chosen, which].float(), self.std[chosen, which].float()
        return mean + std * torch.randn_like(mean)


def stratified_timesteps(count: int, device) -> torch.Tensor:
    """One timestep from each of `count` equal parts of 0 … 999."""
    return ((torch.rand(count, device=device) + torch.arange(count, device=device)) * 1000 / count).long().clamp(0, 999)


def losses_of(unet, latents, context, alpha_bar, args):
    """(min-SNR weighted loss, plain epsilon MSE) of a batch."""
    timesteps = stratified_timesteps(len(latents), latents.device)
    noise, alpha = torch.randn_like(latents), alpha_bar[timesteps].view(-1, 1, 1, 1)
    with autocast(args):
        predicted = unet(alpha.sqrt() * latents + (1 - alpha).sqrt() * noise, timesteps, context).sample
    error = (predicted.float() - noise).pow(2).mean((1, 2, 3))
    snr = alpha.flatten() / (1 - alpha.flatten())
    return (error * snr.clamp(max=args.snr_gamma) / snr).mean(), error.mean().item()


def save(folder: Path, unet, average: Average, metrics: dict) -> None:
    """The averaged weights, in half precision, with configuration and metrics."""
    unet.save_config(folder)
    save_half(folder / "diffusion_pytorch_model.safetensors", average.state)
    save_json(folder / "metrics.json", metrics)
    print("saved at step", metrics["steps"], flush=True)


def train(unet, latents: Latents, captions: Captions, weights: torch.Tensor, args) -> None:
    """Steps until the time is up, saving now and then."""
    device = latents.mean.device
    alpha_bar = sd_schedule().alphas_cumprod.to(device)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    average, clock, step, recent, saved, history = Average(unet, 0.999), Clock(args.minutes), 0, None, 0.0, []
    while clock.fraction() < 1:
        set_rate(optimizer, anneal(args.rate, step, clock.fraction(), warmup=100, hold=0.4, floor=0.03))
        if step % 20 == 19:
            latents.renew(torch.multinomial(weights, min(64, len(weights))), random.randrange(1, args.variants))
        chosen = torch.multinomial(weights, args.batch, replacement=True)
        loss, error = losses_of(unet, latents.draw(chosen), captions.draw(chosen, args.drop), alpha_bar, args)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.update(unet)
        step += 1
        recent = error if recent is None else 0.98 * recent + 0.02 * error
        if step % 50 == 0:
            history.append([step, round(recent, 5)])
            print(f"step {step}, {clock.elapsed():.0f} s, epsilon MSE {recent:.4f}", flush=True)
        if clock.elapsed() - saved > args.save_seconds or clock.fraction() >= 1:
            saved = clock.elapsed()
            metrics = dict(
                steps=step,
                batch=args.batch,
                seconds=round(saved, 1),
                epsilon_mse_recent=round(recent, 5),
                history=history,
            )
            save(args.out / "unet", unet, average, metrics)


def write_pipeline_files(root: Path) -> None:
    """The scheduler's folder and model_index.json of the diffusers layout."""
    sd_schedule().save_pretrained(root / "scheduler")
    path = root / "scheduler/scheduler_config.json"
    save_json(path, json.loads(path.read_text()) | {"skip_prk_steps": True})
    save_json(root / "model_index.json", MODEL_INDEX)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=POCKET, help="folder with data, tokenizer, text_encoder and vae")
    parser.add_argument(
        "--out", type=Path, default=POCKET, help="folder that gets unet, scheduler and model_index.json"
    )
    parser.add_argument("--init", type=Path, help="a UNet's folder to continue from")
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--snr-gamma", type=float, default=5.0)
    parser.add_argument("--drop", type=float, default=0.1, help="share of empty captions")
    parser.add_argument("--variants", type=int, default=4, help="augmentations kept of each picture")
    parser.add_argument("--captions", type=int, default=12, help="captions kept of each picture")
    parser.add_argument("--save-seconds", type=float, default=180)
    add_arguments(parser, minutes=50, batch=32, rate=5e-4)
    args = parser.parse_args()
    device = start(args)
    rgba, rows = read_emoji_table(args.root / "data/pocket_emoji.parquet")
    kept = [i for i, row in enumerate(rows) if row["split"] == "train"]
    rows = [rows[i] for i in kept]
    weights = torch.tensor(
        [(3.0 if row["kind"] == "face" else 1.0) * (1.5 if row["emotion"] else 1.0) for row in rows]
    ).to(device)
    captions = Captions(args.root, rows, args.captions, random.Random(args.seed), device)
    latents = Latents(args.root, rgba[kept].to(device), args.variants, args)
    if args.init:
        unet = UNet2DConditionModel.from_pretrained(args.init, torch_dtype=torch.float32)
    else:
        unet = new_unet(args.channels, args.heads, captions.width)
    write_pipeline_files(args.out)
    train(unet.to(device).train(), latents, captions, weights, args)


if __name__ == "__main__":
    main()
