"""Distil the autoencoder into a tiny one (diffusers' AutoencoderTiny, the layout of TAESD) for previews in training.

    python train_preview_decoder.py --data people/train.parquet --test people/test.parquet --minutes 10

What the trainer decodes for CLIP are predictions P_t of the clean picture from noisy latents, so the student learns the
teacher's decoding of those: of every noise level, under fitting and unfitting captions, and of the plain latents. The
loss is L1 + MSE of the pixels + the distance of CLIP's embeddings, since CLIP is who looks. The small encoder is learned
beside it to make the folder whole. The averaged weights are saved.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from pictures import FAMILY, People, contact_sheet, from_pixels, mirrored, psnr, read_people
from resumable import Resumable
from train_unet import sd_schedule
from training import Average, add_arguments, anneal, save_half, save_json, set_rate, start

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Teacher:
    """The frozen family: what the trainer would decode, how the full decoder shows it, what CLIP sees in it."""

    @torch.no_grad()
    def __init__(self, root: Path, rows: list):
        self.vae = AutoencoderKL.from_pretrained(root / "vae", torch_dtype=torch.float32).eval()
        self.unet = UNet2DConditionModel.from_pretrained(root / "unet", torch_dtype=torch.float32).eval()
        self.clip = CLIPModel.from_pretrained(root / "clip", torch_dtype=torch.float32).eval()
        for model in (self.vae, self.unet, self.clip):
            model.requires_grad_(False)
        self.alphas = sd_schedule().alphas_cumprod
        self.mean, self.std = (torch.tensor(v).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
        tokenizer = CLIPTokenizer.from_pretrained(root / "tokenizer")
        encoder = CLIPTextModel.from_pretrained(root / "text_encoder", torch_dtype=torch.float32).eval()
        texts = ["", *(row["caption"] for row in rows)]
        ids = tokenizer(texts, padding="max_length", truncation=True, max_length=tokenizer.model_max_length)[
            "input_ids"
        ]
        self.contexts = torch.cat([encoder(part)[0] for part in torch.tensor(ids).split(64)])

    def latents(self, rgb: torch.Tensor) -> torch.Tensor:
        """Scaled means, (n, 4, 24, 24)."""
        return self.vae.encode(rgb).latent_dist.mean * self.vae.config.scaling_factor

    def predictions(self, latents: torch.Tensor, captions: torch.Tensor, plain: float) -> torch.Tensor:
        """P_t under the captions' rows at random noise levels; a share of `plain` stays as it is."""
        t = torch.randint(0, 1000, (len(latents),))
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * torch.randn_like(latents)
        epsilon = self.unet(noisy, t, self.contexts[captions]).sample
        keep = torch.rand(len(latents), 1, 1, 1) < plain
        return torch.where(keep, latents, (noisy - (1 - alpha).sqrt() * epsilon) / alpha.sqrt())

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """What the full decoder shows, (n, 3, 96, 96) about in [-1, 1]."""
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample

    def seen(self, rgb: torch.Tensor) -> torch.Tensor:
        """CLIP's normalised embeddings; clamped as the trainer clamps."""
        pixels = ((rgb.clamp(-1, 1) + 1) / 2 - self.mean) / self.std
        return F.normalize(self.clip.get_image_features(pixel_values=pixels).pooler_output, dim=-1)


class Pool:
    """Pictures, their latents, latents to decode and the teacher's decodings; renewed a few at a time."""

    def __init__(self, teacher: Teacher, pixels: torch.Tensor, size: int, args):
        self.teacher, self.pixels, self.args = teacher, pixels, args
        self.parts, self.next = [self.make(64) for _ in range(size // 64)], 0

    @torch.no_grad()
    def make(self, count: int):
        """(pictures, latents, latents to decode, decodings, CLIP's embeddings of these)."""
        chosen = torch.randint(len(self.pixels), (count,))
        rgb = mirrored(from_pixels(self.pixels[chosen]))
        latents = self.teacher.latents(rgb)
        kind = torch.rand(count)
        other = torch.randint(len(self.pixels), (count,))
        captions = torch.where(kind < 0.3, 0, torch.where(kind < 0.6, chosen, other) + (kind >= 0.3))
        wanted = self.teacher.predictions(latents, captions, self.args.plain)
        decoded = self.teacher.decode(wanted)
        return rgb, latents, wanted, decoded, self.teacher.seen(decoded)

    def renew(self) -> None:
        """The oldest part anew."""
        self.parts[self.next] = self.make(64)
        self.next = (self.next + 1) % len(self.parts)

    def draw(self, count: int):
        """Random rows of one random part."""
        part = self.parts[torch.randint(len(self.parts), ()).item()]
        rows = torch.randperm(64)[:count]
        return [tensor[rows] for tensor in part]


def new_student(width: int) -> AutoencoderTiny:
    """TAESD with one level less and half the width; its latents are the UNet's own, so its factor is 1."""
    return AutoencoderTiny(
        encoder_block_out_channels=(width,) * 3,
        decoder_block_out_channels=(width,) * 3,
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(3, 3, 1),
        latent_channels=4,
        scaling_factor=1.0,
        force_upcast=False,
    )


def loss_of(student, teacher: Teacher, batch, args):
    """The training loss on a batch of the pool."""
    rgb, latents, wanted, decoded, seen = batch
    shown = student.decode(wanted).sample
    error = shown - decoded
    clip = 1 - (teacher.seen(shown) * seen).sum(-1).mean()
    encoder = (student.encode(rgb).latents - latents).pow(2).mean()
    return error.abs().mean() + error.pow(2).mean() + args.clip_weight * clip + 0.1 * encoder


def train(student, teacher: Teacher, pool: Pool, args) -> tuple[dict, dict]:
    """Steps until the time is up; (averaged weights, what was done)."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    run = Resumable(args.checkpoint, student, optimizer, Average(student, 0.995), args.minutes)
    while run.fraction() < 1:
        set_rate(optimizer, anneal(args.rate, run.progress.step, run.fraction(), warmup=50))
        if run.progress.step % args.renew == args.renew - 1:
            pool.renew()
        loss = loss_of(student, teacher, pool.draw(args.batch), args)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        run.average.update(student)
        run.after_step(loss.item())
    done = dict(steps=run.progress.step, batch=args.batch, minutes=round(run.progress.seconds / 60, 1))
    return run.average.state, done


@torch.no_grad()
def evaluate(student, teacher: Teacher, rgb: torch.Tensor) -> dict:
    """How near the student's decodings are to the teacher's, on held-out pictures' latents and their P_t."""
    latents = torch.cat([teacher.latents(part) for part in rgb.split(64)])
    empty = torch.zeros(64, dtype=torch.long)
    predicted = torch.cat([teacher.predictions(part, empty[: len(part)], plain=0.0) for part in latents.split(64)])
    measured = {}
    for name, values in [("latents", latents), ("predictions", predicted)]:
        pairs = [(student.decode(part).sample, teacher.decode(part)) for part in values.split(64)]
        near = torch.cat([psnr(shown, full) for shown, full in pairs])
        alike = torch.cat([(teacher.seen(shown) * teacher.seen(full)).sum(-1) for shown, full in pairs])
        measured[f"psnr_{name}"] = round(near.mean().item(), 2)
        measured[f"clip_cosine_{name}"] = round(alike.mean().item(), 4)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="training people, Parquet")
    parser.add_argument("--test", type=Path, required=True, help="held-out people, Parquet")
    parser.add_argument("--root", type=Path, default=FAMILY, help="folder with vae, unet, text_encoder and clip")
    parser.add_argument("--out", type=Path, default=FAMILY / "preview_decoder")
    parser.add_argument("--checkpoint", type=Path, default=Path("build/preview_decoder.pt"))
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=6000, help="training pictures used")
    parser.add_argument("--pool", type=int, default=1536, help="decodings kept at a time")
    parser.add_argument("--renew", type=int, default=25, help="64 of them are made anew every so many steps")
    parser.add_argument("--plain", type=float, default=0.2, help="share of latents without noise")
    parser.add_argument("--clip-weight", type=float, default=0.5)
    parser.add_argument("--sheet", type=Path, help="PNG of held-out pictures: full decoder, tiny decoder")
    add_arguments(parser, minutes=10, batch=16, rate=2e-3)
    args = parser.parse_args()
    start(args)
    people, test = read_people(args.data), read_people(args.test)
    people = People(people.pixels[: args.pictures], people.rows[: args.pictures])
    teacher, student = Teacher(args.root, people.rows), new_student(args.width)
    state, metrics = train(student, teacher, Pool(teacher, people.pixels, args.pool, args), args)
    student.load_state_dict(state)
    student.eval()
    student.save_config(args.out)
    save_half(args.out / "diffusion_pytorch_model.safetensors", student.state_dict())
    held_out = from_pixels(test.pixels[:: max(1, len(test) // 256)])
    metrics |= evaluate(student, teacher, held_out)
    save_json(args.out / "metrics.json", metrics)
    print(metrics)
    if args.sheet:
        with torch.no_grad():
            latents = teacher.latents(held_out[::8][:32])
            pairs = torch.stack([teacher.decode(latents), student.decode(latents).sample], 1)
        contact_sheet(pairs.flatten(0, 1), 16, args.sheet)


if __name__ == "__main__":
    main()
