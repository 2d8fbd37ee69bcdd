"""Train the AutoencoderKL of the people (f = 4: 96 px → 4 × 24 × 24).

    python train_vae.py --data people/train.parquet --test people/test.parquet --photos photos --minutes 60

L1 + half MSE + LPIPS over AlexNet + a tiny KL; no judge's features (a judge is in no loss). Most steps see 64 px crops
around the faces, some crops of photographs and recoloured pictures; the last part sees whole pictures. The averaged
weights are saved. Run again, it goes on from --checkpoint.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from lpips_alex import LpipsAlex
from pictures import (
    FAMILY,
    Photographs,
    contact_sheet,
    face_crops,
    from_pixels,
    mirrored,
    psnr,
    read_people,
    recoloured,
)
from resumable import Resumable
from training import Average, add_arguments, anneal, autocast, save_half, save_json, set_rate, start

CROP, WHOLE_FROM = 64, 0.85  # side of a crop; the share of the time after which whole pictures are shown
HELD_OUT_PHOTOS = ("plasma_Parrot.png", "plasma_Soccer.png")


def new_vae(channels) -> AutoencoderKL:
    """Stable Diffusion's autoencoder with one level less and narrow; its posterior begins with a small variance."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * len(channels),
        up_block_types=["UpDecoderBlock2D"] * len(channels),
        norm_num_groups=8,
        sample_size=96,
        force_upcast=False,
    )
    with torch.no_grad():
        vae.quant_conv.weight[4:] *= 0.1
        vae.quant_conv.bias[4:] = -6.0
    return vae


def loss_of(vae, lpips, rgb, args):
    """The training loss on a batch."""
    with autocast(args):
        posterior = vae.encode(rgb).latent_dist
        decoded = vae.decode(posterior.sample()).sample
    perceptual = lpips(decoded.float(), rgb).mean()
    mean, log_variance = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean.pow(2) + log_variance.exp() - 1 - log_variance).mean()
    error = decoded.float() - rgb
    return error.abs().mean() + 0.5 * error.pow(2).mean() + args.lpips_weight * perceptual + args.kl_weight * kl


class Batches:
    """What a step sees: crops of faces and photographs, later whole pictures."""

    def __init__(self, people, photographs: Photographs, args):
        self.people, self.faces, self.photographs, self.args = people, people.faces, photographs, args

    def draw(self, fraction: float) -> torch.Tensor:
        """(b, 3, side, side) in [-1, 1]."""
        whole = fraction >= WHOLE_FROM
        count = self.args.batch * 4 // 9 if whole else self.args.batch
        photos = max(1, round(count * self.args.photo_share))
        chosen = torch.randint(len(self.people), (count - photos,))
        pixels, side = self.people.pixels[chosen], self.people.pixels.shape[-1] if whole else CROP
        people = pixels if whole else face_crops(pixels, self.faces[chosen], CROP)
        rgb = from_pixels(torch.cat([people, self.photographs.crops(photos, side)]))
        return recoloured(mirrored(rgb), 0.1 if whole else 0.25)


def train(vae, lpips, batches: Batches, args) -> tuple[dict, dict]:
    """Steps until the time is up; (averaged weights, what was done)."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    run = Resumable(args.checkpoint, vae, optimizer, Average(vae, 0.998), args.minutes)
    while run.fraction() < 1:
        set_rate(optimizer, anneal(args.rate, run.progress.step, run.fraction(), warmup=50, hold=0.3))
        loss = loss_of(vae, lpips, batches.draw(run.fraction()), args)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        run.average.update(vae)
        run.after_step(loss.item())
    done = dict(steps=run.progress.step, batch=args.batch, minutes=round(run.progress.seconds / 60, 1))
    return run.average.state, done


@torch.no_grad()
def round_trip(vae, rgb: torch.Tensor) -> torch.Tensor:
    """Encoded and decoded, by the posterior's mean."""
    parts = [vae.decode(vae.encode(part).latent_dist.mode()).sample for part in rgb.split(32)]
    return torch.cat(parts).clamp(-1, 1)


@torch.no_grad()
def evaluate(vae, lpips, rgb: torch.Tensor) -> dict:
    """PSNR and LPIPS of the round trip."""
    decoded = round_trip(vae, rgb)
    distance = torch.cat([lpips(a, b) for a, b in zip(decoded.split(64), rgb.split(64))])
    ratio = psnr(decoded, rgb)
    return dict(
        n=len(rgb),
        psnr=round(ratio.mean().item(), 3),
        lpips=round(distance.mean().item(), 4),
        lpips_95=round(distance.quantile(0.95).item(), 4),
    )


@torch.no_grad()
def scaling_factor(vae, rgb: torch.Tensor) -> float:
    """One over the latents' standard deviation (Rombach et al. 2022)."""
    return 1.0 / torch.cat([vae.encode(part).latent_dist.sample() for part in rgb.split(32)]).std().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="training people, Parquet")
    parser.add_argument("--test", type=Path, required=True, help="held-out people, Parquet")
    parser.add_argument("--photos", type=Path, required=True, help="folder of the CC0 photographs")
    parser.add_argument("--out", type=Path, default=FAMILY / "vae")
    parser.add_argument("--checkpoint", type=Path, default=Path("build/vae.pt"))
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--lpips-weight", type=float, default=0.5)
    parser.add_argument("--kl-weight", type=float, default=2e-4)
    parser.add_argument("--photo-share", type=float, default=0.12)
    parser.add_argument("--sheet", type=Path, help="PNG of held-out pictures and their round trips")
    add_arguments(parser, minutes=60, batch=12, rate=1.2e-3)
    args = parser.parse_args()
    start(args)
    people, test = read_people(args.data), read_people(args.test)
    names = sorted(p.name for p in args.photos.glob("plasma_*.png") if p.name not in HELD_OUT_PHOTOS)
    vae, lpips = new_vae(args.channels), LpipsAlex()
    state, done = train(vae, lpips, Batches(people, Photographs(args.photos, names), args), args)
    vae.load_state_dict(state)
    vae.eval()
    some = torch.randperm(len(people), generator=torch.Generator().manual_seed(0))[:512]
    vae.register_to_config(scaling_factor=scaling_factor(vae, from_pixels(people.pixels[some])))
    vae.save_config(args.out)
    save_half(args.out / "diffusion_pytorch_model.safetensors", vae.state_dict())
    step = max(1, len(test) // 400)
    rgb = from_pixels(test.pixels[::step])
    held_out = from_pixels(Photographs(args.photos, list(HELD_OUT_PHOTOS)).crops(64, 96))
    metrics = done | dict(
        scaling_factor=vae.config.scaling_factor,
        test=evaluate(vae, lpips, rgb),
        unseen_photographs=evaluate(vae, lpips, held_out),
    )
    save_json(args.out / "metrics.json", metrics)
    print(metrics)
    if args.sheet:
        shown = torch.cat([rgb[:: max(1, len(rgb) // 24)][:24], held_out[:8]])
        contact_sheet(torch.stack([shown, round_trip(vae, shown)], 1).flatten(0, 1), 16, args.sheet)


if __name__ == "__main__":
    main()
