"""Train a small CLIP (transformers' CLIPModel, 96 px, patch 8) on the people and their captions.

    python train_clip.py --data people/train.parquet --validation people/validation.parquet --test people/test.parquet

Three quarters of a batch are persons with several of their expressions, so that pictures differ by the expression alone;
training begins close to the faces and widens to whole pictures; and a part of the texts say the expression alone, by its
looks or by its word. Otherwise hair, clothes and places are all that is learned. Beside the contrast the image tower
predicts which words and pairs of words its caption holds (Huang et al. 2024, "Classification Done Right for
Vision-Language Pre-Training"): with a hundred pictures a batch the contrast alone is slow to find a mouth.
With --begin an earlier CLIP learns on and keeps its token table, so that a text encoder which shares it stays valid.
"""

import argparse
import collections
import json
import math
import random
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from pictures import (
    EXPRESSIONS,
    FAMILY,
    blurred,
    face_windows,
    from_pixels,
    mirrored,
    read_people,
    through_windows,
)
from resumable import Resumable
from training import Average, add_arguments, anneal, autocast, part_of, save_half, save_json, set_rate, start

SIDE = 96
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PREPROCESSOR = dict(
    image_processor_type="CLIPImageProcessor",
    feature_extractor_type="CLIPFeatureExtractor",
    do_resize=True,
    size=dict(shortest_edge=SIDE),
    resample=3,
    do_center_crop=True,
    crop_size=dict(height=SIDE, width=SIDE),
    do_rescale=True,
    rescale_factor=1 / 255,
    do_normalize=True,
    image_mean=list(MEAN),
    image_std=list(STD),
    do_convert_rgb=True,
)


def normalised(rgb: torch.Tensor) -> torch.Tensor:
    """[-1, 1] → CLIP's pixel values."""
    mean, std = (torch.tensor(v)[None, :, None, None] for v in (MEAN, STD))
    return ((rgb.clamp(-1, 1) + 1) / 2 - mean) / std


def degraded(rgb: torch.Tensor) -> torch.Tensor:
    """Blur, noise and colour on a part of the batch, so that the tower stands half-denoised pictures."""
    draw = torch.rand(len(rgb), 1, 1, 1)
    rgb = torch.where(draw < 0.2, blurred(rgb, 2), torch.where(draw < 0.25, blurred(rgb, 4), rgb))
    rgb = rgb + torch.randn_like(rgb) * 0.12 * (torch.rand(len(rgb), 1, 1, 1) < 0.3)
    gain = 1 + 0.2 * (torch.rand(len(rgb), 1, 1, 1) - 0.5)
    return (rgb * gain + 0.16 * (torch.rand(len(rgb), 3, 1, 1) - 0.5)).clamp(-1, 1)


def pooled_image(model, rgb: torch.Tensor) -> torch.Tensor:
    """(b, width): what the image tower says before its projection."""
    return model.vision_model(pixel_values=normalised(rgb)).pooler_output


def projected(model, pooled: torch.Tensor) -> torch.Tensor:
    """Normalised image embeddings."""
    return F.normalize(model.visual_projection(pooled).float(), dim=-1)


def image_embeds(model, rgb: torch.Tensor) -> torch.Tensor:
    """Normalised image embeddings of pictures."""
    return projected(model, pooled_image(model, rgb))


def text_embeds(model, ids: torch.Tensor) -> torch.Tensor:
    """Normalised text embeddings."""
    return F.normalize(model.text_projection(model.text_model(input_ids=ids).pooler_output).float(), dim=-1)


class Texts:
    """The tokenizer with its length."""

    def __init__(self, folder: Path):
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)
        self.size, self.length = len(self.tokenizer), self.tokenizer.model_max_length

    def ids(self, texts: list, padding: str = "max_length") -> torch.Tensor:
        """(texts, tokens)."""
        return torch.tensor(
            self.tokenizer(texts, padding=padding, truncation=True, max_length=self.length)["input_ids"]
        )


def first_clip(texts: Texts, args) -> CLIPModel:
    """A narrow CLIP with four layers in each tower, or the one that --begin names."""
    if args.begin:
        model = CLIPModel.from_pretrained(args.begin, torch_dtype=torch.float32, attn_implementation="eager")
        model.text_model.get_input_embeddings().requires_grad_(False)
        return model
    shared = dict(num_hidden_layers=args.layers, hidden_act="quick_gelu", projection_dim=args.projection)
    text = dict(
        vocab_size=texts.size,
        hidden_size=args.text_width,
        intermediate_size=args.text_width * 4,
        num_attention_heads=args.text_width // 32,
        max_position_embeddings=texts.length,
        attention_dropout=0.0,
        bos_token_id=texts.size - 2,
        eos_token_id=texts.size - 1,
        pad_token_id=texts.size - 1,
    )
    vision = dict(
        hidden_size=args.vision_width,
        intermediate_size=args.vision_width * 4,
        num_attention_heads=args.vision_width // 32,
        image_size=SIDE,
        patch_size=8,
    )
    config = CLIPConfig(text_config=text | shared, vision_config=vision | shared, projection_dim=args.projection)
    config._attn_implementation = "eager"  # on a CPU a step takes 0.7 of the fused attention's time
    model = CLIPModel(config)
    embeddings = model.text_model.embeddings
    torch.nn.init.normal_(embeddings.token_embedding.weight, std=0.02)
    torch.nn.init.normal_(embeddings.position_embedding.weight, std=0.02)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(14.0))
    return model


class Batches:
    """Rows of a batch: a share of them several expressions of the same persons, the rest anybody."""

    SAME = 0.75

    def __init__(self, rows: list, seed: int):
        self.rng, self.count, subjects = random.Random(seed), len(rows), collections.defaultdict(list)
        for place, row in enumerate(rows):
            subjects[row["subject"]].append(place)
        self.subjects = [places for places in subjects.values() if len(places) > 1]

    def draw(self, size: int) -> torch.Tensor:
        """(size) places."""
        chosen, same = [], int(size * self.SAME)
        while len(chosen) < same:
            chosen += self.rng.choice(self.subjects)
        chosen = chosen[:same]
        return torch.tensor(chosen + [self.rng.randrange(self.count) for _ in range(size - len(chosen))])


class Captions:
    """Texts of each picture: its caption, its expression's looks alone, or its emotion's word alone.

    With the shares below three texts of ten hold the emotion's word.
    """

    WHOLE, LOOKS = 0.60, 0.27  # shares; the rest are words alone

    def __init__(self, texts: Texts, rows: list):
        told = [
            [row["caption_clip"] for row in rows],
            [f"a person, {row['looks']}" for row in rows],
            [word_of(row["emotion"]) for row in rows],
        ]
        self.ids = torch.stack([texts.ids(kind) for kind in told])
        self.groups = torch.stack([numbered(kind) for kind in told])
        self.lengths = (self.ids != self.ids[:, :, -1:]).sum(2) + 1

    def draw(self, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(token ids of one text for each chosen picture, (pictures, texts) which text is true of which picture)."""
        draw = torch.rand(len(chosen))
        kind = (draw >= self.WHOLE).long() + (draw >= self.WHOLE + self.LOOKS).long()
        groups = self.groups[:, chosen]  # (kinds, pictures)
        said = groups[kind, torch.arange(len(chosen))]  # (texts): what each text says, among texts of its kind
        true = groups[kind].T == said[None]
        return self.ids[kind, chosen, : self.lengths[kind, chosen].max()], true.float()


class Phrases:
    """Which words and pairs of neighbouring words each caption holds; rare ones count more (inverse frequency)."""

    def __init__(self, rows: list, least: int = 20):
        held = [phrases_of(row["caption_clip"]) for row in rows]
        count = collections.Counter(phrase for phrases in held for phrase in phrases)
        kept = [phrase for phrase, times in count.items() if times >= least]
        places, weight = {phrase: i for i, phrase in enumerate(kept)}, torch.zeros(len(rows), len(kept))
        for row, phrases in enumerate(held):
            for phrase in phrases & places.keys():
                weight[row, places[phrase]] = math.log(len(rows) / count[phrase])
        self.share = (weight / weight.sum(1, keepdim=True)).half()  # (rows, phrases), each row sums to one
        self.size = len(kept)

    def loss(self, logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the predicted phrases of the chosen rows."""
        return -(self.share[chosen].float() * logits.float().log_softmax(1)).sum(1).mean()


def phrases_of(caption: str) -> set:
    """Words and pairs of neighbouring words."""
    words = caption.replace(",", " ,").split()
    return set(words) | set(zip(words, words[1:]))


def word_of(emotion: str) -> str:
    """A caption that names the emotion and nothing else."""
    return "a person showing no emotion" if emotion == "neutral" else f"a person showing {emotion}"


def numbered(texts: list) -> torch.Tensor:
    """(n): equal texts have equal numbers."""
    numbers: dict = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts])


def contrastive_loss(similarity: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Radford et al. 2021; what is true of several shares the target."""
    by_image = (true / true.sum(1, keepdim=True) * similarity.log_softmax(1)).sum(1).mean()
    by_text = (true / true.sum(0, keepdim=True) * similarity.log_softmax(0)).sum(0).mean()
    return -0.5 * (by_image + by_text)


def train(model, texts: Texts, people, args) -> tuple[dict, dict]:
    """Steps until the time is up; (averaged weights, what was done)."""
    phrases = Phrases(people.rows)
    learning = torch.nn.ModuleDict(
        dict(clip=model, phrases=torch.nn.Linear(model.config.vision_config.hidden_size, phrases.size))
    )
    learned = [p for p in learning.parameters() if p.requires_grad]
    matrices, others = [p for p in learned if p.ndim >= 2], [p for p in learned if p.ndim < 2]
    groups = [dict(params=matrices, weight_decay=0.1), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.98))
    run = Resumable(args.checkpoint, learning, optimizer, Average(learning, 0.995), args.minutes)
    faces, batches = people.faces, Batches(people.rows, args.seed + run.progress.step)
    captions = Captions(texts, people.rows)
    while run.fraction() < 1:
        set_rate(optimizer, anneal(args.rate, run.progress.step, run.fraction(), warmup=200, hold=0.2, floor=0.01))
        chosen = batches.draw(args.batch)
        rgb = through_windows(
            from_pixels(people.pixels[chosen]), face_windows(faces[chosen], run.fraction() / 0.6), SIDE
        )
        rgb = degraded(mirrored(rgb))
        ids, true = captions.draw(chosen)
        with autocast(args):
            pooled = pooled_image(model, rgb)
            images, words, told = projected(model, pooled), text_embeds(model, ids), learning["phrases"](pooled)
        scale = model.logit_scale.exp().clamp(max=100)
        loss = contrastive_loss(scale * images @ words.T, true) + args.phrases * phrases.loss(told, chosen)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        run.average.update(learning)
        run.after_step(loss.item())
    averaged = part_of(run.average.state, "clip")
    return averaged, dict(steps=run.progress.step, batch=args.batch, minutes=round(run.progress.seconds / 60, 1))


@torch.no_grad()
def evaluate(model, texts: Texts, people) -> dict:
    """Caption → picture among 200, and the expression from its word and from descriptions."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(people), generator=generator)[:200]
    images = torch.cat([image_embeds(model, from_pixels(people.pixels[part])) for part in chosen.split(100)])
    words = text_embeds(model, texts.ids([people.rows[i]["caption_clip"] for i in chosen.tolist()]))
    right = (words @ images.T).argmax(1) == torch.arange(len(chosen))
    named = text_embeds(model, texts.ids([word_of(emotion) for emotion in EXPRESSIONS]))
    told = (images @ named.T).argmax(1) == people.expressions[chosen]
    return dict(n=len(chosen), caption_to_picture=round(right.float().mean().item(), 4),
                expression_from_its_word=round(told.float().mean().item(), 4))  # fmt: skip


def save(model, args, metrics: dict) -> None:
    """clip/ with weights, tokenizer and preprocessor."""
    model.config.architectures = ["CLIPModel"]
    model.config.save_pretrained(args.out / "clip")
    save_half(args.out / "clip/model.safetensors", model.state_dict())
    save_json(args.out / "clip/preprocessor_config.json", PREPROCESSOR)
    for path in args.tokenizer.iterdir():
        shutil.copy(path, args.out / "clip" / path.name)
    save_json(args.out / "clip/metrics.json", metrics)
    print(json.dumps(metrics, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, default=FAMILY / "tokenizer")
    parser.add_argument("--out", type=Path, default=FAMILY, help="folder that gets clip")
    parser.add_argument("--begin", type=Path, help="folder of an earlier CLIP")
    parser.add_argument("--checkpoint", type=Path, default=Path("build/clip.pt"))
    parser.add_argument("--vision-width", type=int, default=160)
    parser.add_argument("--text-width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--projection", type=int, default=128)
    parser.add_argument("--phrases", type=float, default=1.0, help="weight of predicting the caption's words")
    add_arguments(parser, minutes=90, batch=96, rate=1e-3)
    args = parser.parse_args()
    start(args)
    texts, people = Texts(args.tokenizer), read_people(args.data)
    model = first_clip(texts, args).train()
    state, metrics = train(model, texts, people, args)
    model.load_state_dict(state)
    model.eval()
    for name in ("validation", "test"):
        metrics[name] = evaluate(model, texts, read_people(getattr(args, name)))
    save(model, args, metrics)


if __name__ == "__main__":
    main()
