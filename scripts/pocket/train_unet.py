"""Train the people's latent UNet with its text encoder (epsilon prediction, Stable Diffusion's schedule).

    python train_unet.py --data people/train.parquet --text-encoder ../../assets/pocket/clip --minutes 360

The text encoder begins as CLIP's text tower and learns on with the UNet, as latent diffusion's did (Rombach et al. 2022):
a small CLIP alone tells hair and clothes better than expressions. The token table stays CLIP's, so that a token means
the same to both. The averaged weights are saved.
Min-SNR weighting (Hang et al. 2023) with gamma 5, captions dropped for one sample in ten (Ho and Salimans 2022). The
error counts more where a person's pictures differ from one another: the best prediction at each place stays what it is,
but the expression, three per cent of the pixels, is learned sooner. Latents are computed once; each picture is mirrored
or not by chance.
"""

import argparse
import collections
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTokenizer

from pictures import FAMILY, from_pixels, read_people
from resumable import Resumable
from training import Average, add_arguments, anneal, autocast, part_of, save_half, save_json, set_rate, start

LATENT_SIDE = 24
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "_seen_only": "drawn people",  # the editor says so; diffusers passes keys with an underscore by
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
    """Stable Diffusion 1's UNet, narrow and with one level less.

    Attention stands at 12 × 12 and 6 × 6; at 24 × 24 it took half of the time. `heads` carries SD 1's historical
    key name.
    """
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=tuple(channels),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
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
    """Token ids of each picture's caption."""

    def __init__(self, folder: Path, rows: list):
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        texts = [row["caption"] for row in rows] + [""]
        length = tokenizer.model_max_length
        ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length)["input_ids"]
        self.ids = torch.tensor(ids)

    def draw(self, chosen: torch.Tensor, drop: float) -> torch.Tensor:
        """(b, n): captions of the chosen pictures, some of them empty."""
        dropped = torch.rand(len(chosen)) < drop
        return self.ids[torch.where(dropped, len(self.ids) - 1, chosen)]


class Latents:
    """Scaled posteriors of every picture, mirrored or not by chance, and how much each place counts."""

    def __init__(self, root: Path, people, args):
        generator = torch.Generator().manual_seed(args.seed)
        flip = torch.rand(len(people), generator=generator) < 0.5
        kept = args.checkpoint.with_suffix(".latents.pt")  # so that going on does not begin with minutes of encoding
        if kept.exists():
            self.mean, self.std = torch.load(kept, weights_only=True)
        else:
            self.mean, self.std = encoded(root, people, flip, args)
            kept.parent.mkdir(parents=True, exist_ok=True)
            torch.save((self.mean, self.std), kept)
        if len(self.mean) != len(people):
            raise SystemExit(f"{kept}: holds {len(self.mean)} latents, --data has {len(people)}; delete it")
        self.weight = expression_weights(people, flip, args.expression_weight)

    def draw(self, chosen: torch.Tensor) -> torch.Tensor:
        """One sample of the posterior for each chosen picture."""
        mean, std = self.mean[chosen].float(), self.std[chosen].float()
        return mean + std * torch.randn_like(mean)


@torch.no_grad()
def encoded(root: Path, people, flip: torch.Tensor, args) -> tuple[torch.Tensor, torch.Tensor]:
    """(means, standard deviations) in half precision, (n, 4, side, side) each."""
    vae = AutoencoderKL.from_pretrained(root / "vae", torch_dtype=torch.float32).eval()
    factor, means, stds = vae.config.scaling_factor, [], []
    for part in torch.arange(len(people)).split(64):
        rgb = from_pixels(people.pixels[part])
        rgb = torch.where(flip[part][:, None, None, None], rgb.flip(3), rgb)
        with autocast(args):
            posterior = vae.encode(rgb).latent_dist
        means.append((posterior.mean.float() * factor).half())
        stds.append((posterior.std.float() * factor).half())
    return torch.cat(means), torch.cat(stds)


def expression_weights(people, flip: torch.Tensor, most: float) -> torch.Tensor:
    """(n, 1, side, side): 1 where all pictures of a person agree, up to `most` where they differ; of mean 1 for each
    picture."""
    subjects = collections.defaultdict(list)
    for place, row in enumerate(people.rows):
        subjects[row["subject"]].append(place)
    region = torch.zeros(len(people), 1, LATENT_SIDE, LATENT_SIDE)
    for places in subjects.values():
        pixels = people.pixels[places]
        spread = pixels.amax(0).int() - pixels.amin(0).int()
        region[places] = F.adaptive_avg_pool2d((spread.amax(0) > 8).float()[None], LATENT_SIDE)
    region = F.max_pool2d(torch.where(flip[:, None, None, None], region.flip(3), region), 3, 1, 1)
    weight = 1 + (most - 1) * region
    return weight / weight.mean((2, 3), keepdim=True)


def stratified_timesteps(count: int) -> torch.Tensor:
    """One timestep from each of `count` equal parts of 0 … 999."""
    return ((torch.rand(count) + torch.arange(count)) * 1000 / count).long().clamp(0, 999)


def losses_of(model, latents, weight, ids, alpha_bar, args):
    """(weighted loss, plain epsilon MSE) of a batch."""
    timesteps = stratified_timesteps(len(latents))
    noise, alpha = torch.randn_like(latents), alpha_bar[timesteps].view(-1, 1, 1, 1)
    with autocast(args):
        context = model["text_encoder"](ids)[0]
        predicted = model["unet"](alpha.sqrt() * latents + (1 - alpha).sqrt() * noise, timesteps, context).sample
    squared = (predicted.float() - noise).pow(2)
    snr = alpha.flatten() / (1 - alpha.flatten())
    weighted = (squared * weight).mean((1, 2, 3)) * snr.clamp(max=args.snr_gamma) / snr
    return weighted.mean(), squared.mean().item()


def save(folder: Path, model, run: Resumable, args) -> None:
    """The averaged weights, in half precision, with configuration and metrics."""
    state = run.average.state
    model["unet"].save_config(folder / "unet")
    save_half(folder / "unet/diffusion_pytorch_model.safetensors", part_of(state, "unet"))
    model["text_encoder"].config.save_pretrained(folder / "text_encoder")
    save_half(folder / "text_encoder/model.safetensors", part_of(state, "text_encoder"))
    progress = run.progress
    metrics = dict(steps=progress.step, batch=args.batch, minutes=round(progress.seconds / 60, 1))
    save_json(folder / "unet/metrics.json", metrics | dict(epsilon_mse=progress.history[-1:]))


def train(model, latents: Latents, captions: Captions, args) -> None:
    """Steps until the time is up; the weights lie in --out at the end, and every thousand steps."""
    alpha_bar = sd_schedule().alphas_cumprod
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    run, recent = Resumable(args.checkpoint, model, optimizer, Average(model, 0.9995), args.minutes), None
    while run.fraction() < 1:
        set_rate(optimizer, anneal(args.rate, run.progress.step, run.fraction(), warmup=200, hold=0.6, floor=0.03))
        chosen = torch.randint(len(latents.mean), (args.batch,))
        ids = captions.draw(chosen, args.drop)
        loss, error = losses_of(model, latents.draw(chosen), latents.weight[chosen], ids, alpha_bar, args)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        run.average.update(model)
        recent = error if recent is None else 0.98 * recent + 0.02 * error
        run.after_step(recent, 100)
        if run.progress.step % 1000 == 0:
            save(args.out, model, run, args)
    save(args.out, model, run, args)


def write_pipeline_files(root: Path) -> None:
    """The scheduler's folder and model_index.json of the diffusers layout."""
    sd_schedule().save_pretrained(root / "scheduler")
    path = root / "scheduler/scheduler_config.json"
    save_json(path, json.loads(path.read_text()) | {"skip_prk_steps": True})
    save_json(root / "model_index.json", MODEL_INDEX)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--root", type=Path, default=FAMILY, help="folder with tokenizer and vae")
    parser.add_argument("--text-encoder", type=Path, default=FAMILY / "clip", help="text tower to begin with")
    parser.add_argument("--out", type=Path, default=FAMILY, help="folder that gets the pipeline's other parts")
    parser.add_argument("--checkpoint", type=Path, default=Path("build/unet.pt"))
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 192])
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--begin", type=Path, help="folder whose unet and text_encoder to go on from; the optimiser is new")
    parser.add_argument("--snr-gamma", type=float, default=5.0)
    parser.add_argument("--expression-weight", type=float, default=12.0, help="of the error where expressions differ")
    parser.add_argument("--drop", type=float, default=0.1, help="share of empty captions")
    add_arguments(parser, minutes=180, batch=32, rate=7e-4)
    args = parser.parse_args()
    start(args)
    people = read_people(*args.data)
    captions, latents = Captions(args.root / "tokenizer", people.rows), Latents(args.root, people, args)
    del people.pixels
    write_pipeline_files(args.out)
    text_tower = args.begin / "text_encoder" if args.begin else args.text_encoder
    text_encoder = CLIPTextModel.from_pretrained(text_tower, torch_dtype=torch.float32)
    text_encoder.get_input_embeddings().requires_grad_(False)
    if args.begin:
        unet = UNet2DConditionModel.from_pretrained(args.begin / "unet", torch_dtype=torch.float32)
    else:
        unet = new_unet(args.channels, args.heads, text_encoder.config.hidden_size)
    unet.set_attn_processor(AttnProcessor())  # on a CPU a step takes 0.7 of the fused attention's time
    train(torch.nn.ModuleDict(dict(unet=unet, text_encoder=text_encoder)).train(), latents, captions, args)


if __name__ == "__main__":
    main()
