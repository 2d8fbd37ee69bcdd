"""Train a small CLIP (transformers' CLIPModel, 64 px, patch 8) on pictures and captions.

    python train_clip.py --minutes 10

Writes clip/ and its text tower text_encoder/ in Stable Diffusion 1's key names.
"""

import argparse
import json
import math
import random
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from captions import ADJECTIVES, STYLES, caption, with_article
from emoji_labels import EMOTIONS
from pictures import POCKET, augment, blur, on_white, read_emoji_table
from training import Average, Clock, add_arguments, anneal, autocast, save_half, save_json, set_rate, start

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PREPROCESSOR = dict(
    image_processor_type="CLIPImageProcessor",
    feature_extractor_type="CLIPFeatureExtractor",
    do_resize=True,
    size=dict(shortest_edge=64),
    resample=3,
    do_center_crop=True,
    crop_size=dict(height=64, width=64),
    do_rescale=True,
    rescale_factor=1 / 255,
    do_normalize=True,
    image_mean=list(MEAN),
    image_std=list(STD),
    do_convert_rgb=True,
)


def normalised(rgb: torch.Tensor) -> torch.Tensor:
    """[-1, 1] → CLIP's pixel values."""
    mean, std = (torch.tensor(v, device=rgb.device)[None, :, None, None] for v in (MEAN, STD))
    return ((rgb.clamp(-1, 1) + 1) / 2 - mean) / std


def degrade(rgb: torch.Tensor) -> torch.Tensor:
    """Blur, noise and colour jitter on a part of the batch, so that the tower stands half-denoised pictures."""
    n, device = len(rgb), rgb.device
    draw = torch.rand(n, 1, 1, 1, device=device)
    rgb = torch.where(draw < 0.2, blur(rgb, 2), torch.where(draw < 0.28, blur(rgb, 4), rgb))
    rgb = rgb + torch.randn_like(rgb) * 0.12 * (torch.rand(n, 1, 1, 1, device=device) < 0.3)
    gain = 1 + 0.2 * (torch.rand(n, 1, 1, 1, device=device) - 0.5)
    return (rgb * gain + 0.16 * (torch.rand(n, 3, 1, 1, device=device) - 0.5)).clamp(-1, 1)


def image_embeds(model, rgb: torch.Tensor) -> torch.Tensor:
    """Normalised image embeddings."""
    pooled = model.vision_model(pixel_values=normalised(rgb)).pooler_output
    return F.normalize(model.visual_projection(pooled).float(), dim=-1)


def text_embeds(model, ids: torch.Tensor) -> torch.Tensor:
    """Normalised text embeddings."""
    return F.normalize(model.text_projection(model.text_model(input_ids=ids).pooler_output).float(), dim=-1)


class Texts:
    """The tokenizer with its length and device."""

    def __init__(self, folder: Path, device):
        self.tokenizer, self.device = CLIPTokenizer.from_pretrained(folder), device
        self.size, self.length = len(self.tokenizer), self.tokenizer.model_max_length

    def ids(self, texts: list, padding: str = "max_length") -> torch.Tensor:
        """(texts, tokens)."""
        encoded = self.tokenizer(texts, padding=padding, truncation=True, max_length=self.length)["input_ids"]
        return torch.tensor(encoded, device=self.device)


def new_clip(texts: Texts, args) -> CLIPModel:
    """A narrow CLIP with four layers in each tower."""
    shared = dict(num_hidden_layers=args.layers, hidden_act="quick_gelu", projection_dim=args.projection)
    model = CLIPModel(
        CLIPConfig(
            text_config=dict(
                vocab_size=texts.size,
                hidden_size=args.text_width,
                intermediate_size=args.text_width * 4,
                num_attention_heads=args.text_width // 32,
                max_position_embeddings=texts.length,
                attention_dropout=0.0,
                bos_token_id=texts.size - 2,
                eos_token_id=texts.size - 1,
                pad_token_id=texts.size - 1,
                **shared,
            ),
            vision_config=dict(
                hidden_size=args.vision_width,
                intermediate_size=args.vision_width * 4,
                num_attention_heads=args.vision_width // 32,
                image_size=64,
                patch_size=8,
                **shared,
            ),
            projection_dim=args.projection,
        )
    )
    embeddings = model.text_model.embeddings
    torch.nn.init.normal_(embeddings.token_embedding.weight, std=0.02)
    torch.nn.init.normal_(embeddings.position_embedding.weight, std=0.02)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(14.0))
    return model


def targets_of(batch: list, captions: list) -> torch.Tensor:
    """Each caption fits its picture; one that only names an emotion half fits others of that emotion and kind."""
    targets = torch.eye(len(batch))
    for column, (row, text) in enumerate(zip(batch, captions)):
        if row["label"].lower() in text:
            continue
        for emotion in row["emotions"]:
            if f"evoking {emotion}" not in text and ADJECTIVES[emotion] not in text:
                continue
            for line, other in enumerate(batch):
                if line != column and emotion in other["emotions"] and other["kind"] == row["kind"]:
                    targets[line, column] = 0.5
    return targets


def contrastive_loss(similarity: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Radford et al. 2021 with soft targets."""
    by_image = (targets / targets.sum(1, keepdim=True) * similarity.log_softmax(1)).sum(1).mean()
    by_text = (targets / targets.sum(0, keepdim=True) * similarity.log_softmax(0)).sum(0).mean()
    return -0.5 * (by_image + by_text)


def train(model, texts: Texts, rgba, rows, args):
    """Steps until the time is up; returns (averaged weights, steps, seconds)."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [dict(params=matrices, weight_decay=0.1), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.98))
    weights = torch.tensor([(2.0 if row["kind"] == "face" else 1.0) * (1.7 if row["emotion"] else 1.0) for row in rows])
    average, clock, step, rng = Average(model, 0.99), Clock(args.minutes), 0, random.Random(args.seed)
    while clock.fraction() < 1:
        set_rate(optimizer, anneal(args.rate, step, clock.fraction(), warmup=60, floor=0.01))
        chosen = torch.multinomial(weights, args.batch)
        batch = [rows[i] for i in chosen.tolist()]
        captions = [caption(row, rng, 0.35) for row in batch]
        with autocast(args):
            images = image_embeds(model, degrade(augment(rgba[chosen.to(rgba.device)])))
            words = text_embeds(model, texts.ids(captions, "longest"))
        scale = model.logit_scale.exp().clamp(max=100)
        loss = contrastive_loss(scale * images @ words.T, targets_of(batch, captions).to(rgba.device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        step += 1
        if step % 50 == 0:
            print(f"step {step}, {clock.elapsed():.0f} s, loss {loss.item():.3f}", flush=True)
    return average.state, step, clock.elapsed()


@torch.no_grad()
def evaluate(model, texts: Texts, rgba, rows) -> dict:
    """Retrieval of labels, and zero-shot emotion and style."""
    images = torch.cat([image_embeds(model, on_white(part)) for part in rgba.split(128)])
    labels = [
        f"a {STYLES[r['set']]} emoji of {with_article(r['label'].lower())}, "
        + ", ".join(t for t in r["tags"][:6] if t.isascii())
        for r in rows
    ]
    words = torch.cat([text_embeds(model, part) for part in texts.ids(labels).split(128)])
    codes = [row["hexcode"] for row in rows]
    same = torch.tensor([[a == b for b in codes] for a in codes], device=images.device)
    similarity, result = images @ words.T, dict(n=len(rows))
    for k in (1, 5, 10):
        result[f"image_to_label@{k}"] = round(
            same.gather(1, similarity.topk(k, 1).indices).any(1).float().mean().item(), 4
        )
        result[f"label_to_image@{k}"] = round(
            same.gather(1, similarity.T.topk(k, 1).indices).any(1).float().mean().item(), 4
        )
    return result | zero_shot(model, texts, images, rows)


def zero_shot(model, texts: Texts, images, rows) -> dict:
    """Accuracy of the nearest of the eight emotions' texts, and of the three styles'."""
    emotions = text_embeds(model, texts.ids([f"an emoji evoking {emotion}" for emotion in EMOTIONS]))
    styles = text_embeds(model, texts.ids([with_article(style) + " emoji" for style in STYLES.values()]))
    told = [
        EMOTIONS[i] in row["emotions"]
        for i, row in zip((images @ emotions.T).argmax(1).tolist(), rows)
        if row["emotions"]
    ]
    styled = [list(STYLES)[i] == row["set"] for i, row in zip((images @ styles.T).argmax(1).tolist(), rows)]
    return dict(
        zero_shot_emotion=round(sum(told) / max(1, len(told)), 4),
        zero_shot_emotion_n=len(told),
        zero_shot_style=round(sum(styled) / len(styled), 4),
    )


def save(model, args, metrics: dict) -> None:
    """clip/ with tokenizer and preprocessor, and text_encoder/ with the text tower alone."""
    model.config.architectures = ["CLIPModel"]
    model.config.save_pretrained(args.out / "clip")
    save_half(args.out / "clip/model.safetensors", model.state_dict())
    save_json(args.out / "clip/preprocessor_config.json", PREPROCESSOR)
    for path in args.tokenizer.iterdir():
        shutil.copy(path, args.out / "clip" / path.name)
    model.config.text_config.architectures = ["CLIPTextModel"]
    model.config.text_config.save_pretrained(args.out / "text_encoder")
    tower = {name: value for name, value in model.state_dict().items() if name.startswith("text_model.")}
    save_half(args.out / "text_encoder/model.safetensors", tower)
    save_json(args.out / "clip/metrics.json", metrics)
    print(json.dumps(metrics, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=POCKET / "data/pocket_emoji.parquet")
    parser.add_argument("--tokenizer", type=Path, default=POCKET / "tokenizer")
    parser.add_argument("--out", type=Path, default=POCKET, help="folder that gets clip and text_encoder")
    parser.add_argument("--vision-width", type=int, default=160)
    parser.add_argument("--text-width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--projection", type=int, default=128)
    add_arguments(parser, minutes=10, batch=96, rate=1e-3)
    args = parser.parse_args()
    device = start(args)
    texts = Texts(args.tokenizer, device)
    rgba, rows = read_emoji_table(args.data)
    split = {name: [i for i, row in enumerate(rows) if row["split"] == name] for name in ("train", "test")}
    split["test_faces"] = [i for i in split["test"] if rows[i]["kind"] == "face"]
    model = new_clip(texts, args).to(device).train()
    state, steps, seconds = train(
        model, texts, rgba[split["train"]].to(device), [rows[i] for i in split["train"]], args
    )
    model.load_state_dict(state)
    model.eval()
    metrics = dict(steps=steps, batch=args.batch, seconds=round(seconds, 1))
    for name in ("test", "test_faces"):
        metrics[name] = evaluate(model, texts, rgba[split[name]].to(device), [rows[i] for i in split[name]])
    save(model, args, metrics)


if __name__ == "__main__":
    main()
