"""Train the judge: ImageNet AlexNet features (frozen, from the LPIPS file) under a small MLP, eight emotions.

    python train_classifier.py --data build/judge_emoji.parquet

It takes part in no editing loss. It learns from ten styles, only from base emoji that are not held out; its
settings were chosen by five-fold cross-validation over the bases it may see, and the held-out ones are looked
at once. Several heads of different seeds are one wide MLP in the end, so their logits are averaged.
Features are kept in --cache; with it, another training takes a minute.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn

from captions import STYLES
from classifier_images import variants
from classifier_report import report
from emoji_labels import EMOTIONS
from lpips_alex import LpipsAlex
from pictures import POCKET, read_emoji_table
from training import Clock, anneal, save_half, save_json, set_rate

SIZE = 128
CONFIG = dict(
    architecture="alexnet_features_mlp",
    labels=list(EMOTIONS),
    input_size=SIZE,
    input_range=[-1, 1],
    input_shift=[-0.030, -0.088, -0.188],
    input_scale=[0.458, 0.448, 0.450],
    features="AlexNet (torchvision numbering); embedding = adaptive average pool of relu5 to 3x3, flattened, "
    "then global max of relu3",
    resize="bicubic",
    takes_part_in_losses=False,
)


def embedding(lpips: LpipsAlex, rgb: torch.Tensor) -> torch.Tensor:
    """(n, 2688): relu5 averaged to 3 × 3, then the maximum of relu3."""
    larger = nn.functional.interpolate(rgb, size=(SIZE, SIZE), mode="bicubic", align_corners=False).clamp(-1, 1)
    found = lpips.features(larger)
    return torch.cat([nn.functional.adaptive_avg_pool2d(found[4], 3).flatten(1), found[2].amax((2, 3))], 1)


@torch.no_grad()
def embed_all(rgba: torch.Tensor, trips: torch.Tensor, vae, lpips: LpipsAlex) -> torch.Tensor:
    """(variants, pictures, 2688) in half precision."""
    stacks = []
    for number, treat in enumerate(variants(vae)):
        parts = [embedding(lpips, treat(rgba[i : i + 64], trips[i : i + 64])).half() for i in range(0, len(rgba), 64)]
        stacks.append(torch.cat(parts))
        print(f"variant {number} embedded", flush=True)
    return torch.stack(stacks)


class Labels:
    """Soft targets (n, 8), sample weights (n), and which rows carry a curated emotion."""

    def __init__(self, rows: list, extra: dict, smoothing: float = 0.1, extra_confidence: float = 0.7):
        self.truth = torch.zeros(len(rows), 8)
        self.weight = torch.zeros(len(rows))
        self.curated = torch.tensor([bool(row["emotions"]) for row in rows])
        self.target = torch.full((len(rows), 8), 1 / 8)
        for i, row in enumerate(rows):
            named = row["emotions"] or extra.get(row["label"], [])
            for emotion in named:
                self.truth[i, EMOTIONS.index(emotion)] = 1
            if row["emotions"] or row["label"] in extra:
                self.weight[i] = (2.0 if row["kind"] == "face" else 1.0) if row["emotions"] else 0.5
                sure = (1 - smoothing) if row["emotions"] else extra_confidence
                if named:
                    self.target[i] = sure * self.truth[i] / len(named) + (1 - sure) / 8

    def loss(self, logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Mean negative log likelihood of the true emotions."""
        truth = self.truth[chosen]
        return -(truth / truth.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()


def train_head(features, labels: Labels, chosen: torch.Tensor, seed: int, args) -> nn.Sequential:
    """Linear, ReLU, dropout, Linear on standardised features with mixup; the standardisation is folded in."""
    torch.manual_seed(seed)
    views, _, width = features.shape
    seen = features[:, chosen].float()
    mean, std = seen.mean((0, 1)), seen.std((0, 1)) + 1e-2
    head = nn.Sequential(nn.Linear(width, args.hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(args.hidden, 8))
    target, weight = labels.target[chosen], labels.weight[chosen]
    weight = weight * (target @ (1 / (target * weight[:, None]).sum(0)))  # classes count alike
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.05)
    blend = torch.distributions.Beta(0.3, 0.3)
    for step in range(args.steps):
        set_rate(optimizer, anneal(1e-3, step, step / args.steps, warmup=1, floor=0.0))
        which = torch.multinomial(weight, 128, replacement=True)
        x = nn.functional.dropout((seen[torch.randint(views, (128,)), which] - mean) / std, 0.2)
        y, other, share = target[which], torch.randperm(128), blend.sample((128, 1))
        x, y = share * x + (1 - share) * x[other], share * y + (1 - share) * y[other]
        loss = -(y * head(x).log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        head[0].bias.sub_((head[0].weight * (mean / std)).sum(1))
        head[0].weight.div_(std)
    return head.eval()


@torch.no_grad()
def joined(heads: list) -> nn.Sequential:
    """One wide MLP whose logits are the mean of the heads' logits."""
    width, hidden = heads[0][0].in_features, heads[0][0].out_features
    wide = nn.Sequential(
        nn.Linear(width, hidden * len(heads)), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden * len(heads), 8)
    )
    wide[0].weight.copy_(torch.cat([head[0].weight for head in heads]))
    wide[0].bias.copy_(torch.cat([head[0].bias for head in heads]))
    wide[3].weight.copy_(torch.cat([head[3].weight for head in heads], 1) / len(heads))
    wide[3].bias.copy_(sum(head[3].bias for head in heads) / len(heads))
    return wide.eval()


def fit(features, labels: Labels, chosen: torch.Tensor, args) -> nn.Sequential:
    """Heads of several seeds as one."""
    return joined([train_head(features, labels, chosen, seed, args) for seed in range(args.heads)])


@torch.no_grad()
def cross_validate(features, labels: Labels, rows: list, allowed: torch.Tensor, args):
    """(logits, rows they are for): every allowed curated picture judged by a head that never saw its base."""
    fold = torch.tensor([int(hashlib.md5(("fold" + row["base"]).encode()).hexdigest(), 16) % 5 for row in rows])
    logits, places = [], []
    for number in range(5):
        seen = (allowed & (fold != number) & (labels.weight > 0)).nonzero()[:, 0]
        asked = (allowed & (fold == number) & labels.curated).nonzero()[:, 0]
        with torch.enable_grad():
            head = fit(features, labels, seen, args)
        logits.append(head(features[0, asked].float()))
        places.append(asked)
        print(f"fold {number} of 5", flush=True)
    return torch.cat(logits), torch.cat(places)


def temperature_of(logits, places, labels: Labels, faces) -> float:
    """The temperature with the best likelihood on faces (Guo et al. 2017), by search on a grid."""
    grid = [0.5 + 0.05 * i for i in range(60)]
    return min(grid, key=lambda t: labels.loss(logits[faces[places]] / t, places[faces[places]]).item())


def save(out: Path, lpips: LpipsAlex, head: nn.Sequential, metrics: dict) -> None:
    """config.json, model.safetensors (with AlexNet, so that it stands alone) and metrics.json."""
    state = {f"head.{name}": value for name, value in head.state_dict().items()}
    for name, value in lpips.named_buffers():
        if name.startswith("net_features_"):
            index, kind = name.split("_")[2:]
            state[f"features.{index}.{kind}"] = value
    save_half(out / "model.safetensors", state)
    save_json(out / "config.json", CONFIG | dict(head=[head[0].in_features, head[0].out_features, 8]))
    save_json(out / "metrics.json", metrics)


def load_features(args, lpips: LpipsAlex):
    """(features, rows), from the cache if there is one."""
    if args.cache and args.cache.exists():
        kept = torch.load(args.cache, weights_only=False)
        return kept["features"], kept["rows"]
    rgba, rows = read_emoji_table(args.data)
    taken = [
        i for i, row in enumerate(rows) if "1F3F" not in row["hexcode"] and (row["emotions"] or row["kind"] == "face")
    ]
    rgba, rows = rgba[taken], [rows[i] for i in taken]
    vae = AutoencoderKL.from_pretrained(args.vae, torch_dtype=torch.float32).eval()
    trips = torch.tensor([row["kind"] == "face" and row["set"] in STYLES for row in rows])
    features = embed_all(rgba, trips, vae, lpips)
    if args.cache:
        args.cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(dict(features=features, rows=rows), args.cache)
    return features, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/judge_emoji.parquet"))
    parser.add_argument("--extra", type=Path, default=POCKET / "data/judge_extra_emotions.json")
    parser.add_argument("--vae", type=Path, default=POCKET / "vae")
    parser.add_argument("--out", type=Path, default=POCKET / "emotion_classifier")
    parser.add_argument("--cache", type=Path, help="where features are kept between runs")
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock, lpips = Clock(1), LpipsAlex()
    features, rows = load_features(args, lpips)
    labels = Labels(rows, json.loads(args.extra.read_text()))
    allowed = torch.tensor([row["split"] == "train" for row in rows])
    logits, places = cross_validate(features, labels, rows, allowed, args)
    faces = torch.tensor([row["kind"] == "face" for row in rows])
    temperature = temperature_of(logits, places, labels, faces)
    metrics = dict(chance=0.125, temperature=round(temperature, 3))
    metrics["cross_validated_by_base"] = report(logits / temperature, [rows[i] for i in places.tolist()])
    head = fit(features, labels, (allowed & (labels.weight > 0)).nonzero()[:, 0], args)
    with torch.no_grad():
        head[3].weight.div_(temperature)
        head[3].bias.div_(temperature)
        held_out = (~allowed & labels.curated).nonzero()[:, 0]
        noisy = report(head(features[4, held_out].float()), [rows[i] for i in held_out.tolist()])
        metrics["held_out_family_faces_after_noisy_trip"] = noisy["family_faces"]
        metrics["held_out_bases"] = report(head(features[0, held_out].float()), [rows[i] for i in held_out.tolist()])
    metrics["trained_on"] = dict(
        pictures=int((allowed & (labels.weight > 0)).sum()),
        curated=int((allowed & labels.curated).sum()),
        curated_faces=sum(row["kind"] == "face" and row["split"] == "train" and bool(row["emotions"]) for row in rows),
    )
    metrics["seconds"] = round(clock.elapsed(), 1)
    save(args.out, lpips, head, metrics)
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main()
