"""Train the AutoencoderKL (64 px → 4 × 16 × 16): L1 + half MSE + LPIPS + a tiny KL; the averaged weights are saved.

python train_vae.py --minutes 8
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from lpips_alex import LpipsAlex
from pictures import POCKET, augment, contact_sheet, on_white, psnr, read_emoji_table
from training import Average, Clock, add_arguments, anneal, autocast, save_half, save_json, set_rate, start


def new_vae(channels) -> AutoencoderKL:
    """Stable Diffusion's autoencoder with one level less and a sixth of the width."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * len(channels),
        up_block_types=["UpDecoderBlock2D"] * len(channels),
        norm_num_groups=8,
        sample_size=64,
        force_upcast=False,
    )


def loss_of(vae, lpips, rgb, args):
    """The training loss on a batch."""
    with autocast(args):
        posterior = vae.encode(rgb).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        perceptual = lpips(decoded, rgb).float().mean()
    mean, log_variance = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean.pow(2) + log_variance.exp() - 1 - log_variance).mean()
    error = decoded.float() - rgb
    return error.abs().mean() + 0.5 * error.pow(2).mean() + args.lpips_weight * perceptual + args.kl_weight * kl


@torch.no_grad()
def evaluate(vae, lpips, rgba, faces) -> dict:
    """PSNR and LPIPS of the round trip on held-out pictures."""
    noise_ratio, distance = [], []
    for part in rgba.split(64):
        rgb = on_white(part)
        decoded = vae.decode(vae.encode(rgb).latent_dist.mode()).sample.float()
        noise_ratio.append(psnr(decoded, rgb).cpu())
        distance.append(lpips(decoded.clamp(-1, 1), rgb).cpu())
    noise_ratio, distance = torch.cat(noise_ratio), torch.cat(distance)
    return dict(
        psnr_test=round(noise_ratio.mean().item(), 3),
        psnr_test_faces=round(noise_ratio[faces].mean().item(), 3),
        psnr_min=round(noise_ratio.min().item(), 2),
        lpips_test=round(distance.mean().item(), 4),
    )


@torch.no_grad()
def scaling_factor(vae, rgba) -> float:
    """One over the latents' standard deviation, as in Rombach et al. 2022."""
    latents = [vae.encode(augment(part)).latent_dist.sample() for part in rgba[:512].split(64)]
    return 1.0 / torch.cat(latents).std().item()


def train(vae, lpips, rgba, weights, args):
    """Steps until the time is up; returns (averaged weights, steps, seconds)."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    average, clock, step = Average(vae, 0.995), Clock(args.minutes), 0
    while clock.fraction() < 1:
        set_rate(optimizer, anneal(args.rate, step, clock.fraction(), warmup=50))
        chosen = torch.multinomial(weights, args.batch, replacement=True).to(rgba.device)
        loss = loss_of(vae, lpips, augment(rgba[chosen]), args)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update(vae)
        step += 1
        if step % 50 == 0:
            print(f"step {step}, {clock.elapsed():.0f} s, loss {loss.item():.4f}", flush=True)
    return average.state, step, clock.elapsed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=POCKET / "data/pocket_emoji.parquet")
    parser.add_argument("--out", type=Path, default=POCKET / "vae")
    parser.add_argument("--init", type=Path, help="a folder to continue from; its scaling factor is kept")
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--lpips-weight", type=float, default=0.3)
    parser.add_argument("--kl-weight", type=float, default=3e-4)
    parser.add_argument("--sheet", type=Path, help="PNG of held-out pictures and their round trips")
    add_arguments(parser, minutes=8, batch=8, rate=1.2e-3)
    args = parser.parse_args()
    device = start(args)
    rgba, rows = read_emoji_table(args.data)
    training = torch.tensor([row["split"] == "train" for row in rows])
    faces = torch.tensor([row["kind"] == "face" for row in rows])
    weights = torch.where(faces[training], 3.0, 1.0)
    vae = (
        AutoencoderKL.from_pretrained(args.init, torch_dtype=torch.float32) if args.init else new_vae(args.channels)
    ).to(device)
    lpips = LpipsAlex().to(device)
    state, steps, seconds = train(vae, lpips, rgba[training].to(device), weights, args)
    vae.load_state_dict(state)
    vae.eval()
    factor = vae.config.scaling_factor if args.init else scaling_factor(vae, rgba[training].to(device))
    vae.register_to_config(scaling_factor=float(factor))
    vae.save_config(args.out)
    save_half(args.out / "diffusion_pytorch_model.safetensors", vae.state_dict())
    metrics = dict(steps=steps, batch=args.batch, seconds=round(seconds, 1), scaling_factor=factor)
    metrics |= evaluate(vae, lpips, rgba[~training].to(device), faces[~training])
    save_json(args.out / "metrics.json", metrics)
    print(metrics)
    if args.sheet:
        rgb = on_white(rgba[~training][::4][:32].to(device))
        with torch.no_grad():
            decoded = vae.decode(vae.encode(rgb).latent_dist.mode()).sample
        contact_sheet(torch.stack([rgb, decoded], 1).flatten(0, 1), 16, args.sheet)


if __name__ == "__main__":
    main()
