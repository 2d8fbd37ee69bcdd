"""Train one of the two judges of the people: they tell the expression, and take part in no loss of anything.

    python train_judge.py --kind resnet18 --data train.parquet judge.parquet --validation validation.parquet \\
        --test test.parquet unseen.parquet --vae ../../assets/pocket/vae --out ../../assets/pocket/judge_resnet --seed 1
    python train_judge.py --kind alexnet … --out ../../assets/pocket/judge_alexnet --seed 2

`resnet18` is a narrow ResNet-18 from scratch; `alexnet` has torchvision's ImageNet features, trained on, under a
perceptron. Ten classes: Mikels' eight, neutral, and *unreadable* (faces that were blurred, blotched or mixed), so
that an edit which wiped a face is no hit. Training begins on crops of faces and widens to whole pictures; a part has
been through the autoencoder. The temperature is fitted on the validation people (Guo et al. 2017).
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from judge_pictures import UNREADABLE, JudgePictures, as_seen
from lpips_alex import LAYERS, LpipsAlex
from pictures import EXPRESSIONS, from_pixels, read_people
from resumable import Resumable
from training import Average, add_arguments, anneal, autocast, save_half, save_json, start

LABELS = (*EXPRESSIONS[1:], "neutral", "unreadable")
SIDE = 128
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
RESNET = dict(
    architecture="resnet18", labels=list(LABELS), input_size=SIDE, mean=[0.5] * 3, std=[0.25] * 3,
    takes_part_in_losses=False,
)  # fmt: skip
ALEXNET = dict(
    architecture="alexnet_features_mlp",
    labels=list(LABELS),
    input_size=SIDE,
    input_range=[-1, 1],
    input_shift=list(SHIFT),
    input_scale=list(SCALE),
    features="AlexNet (torchvision numbering); embedding = adaptive average pool of relu5 to 3x3, flattened, "
    "then global max of relu3",
    resize="bicubic",
    takes_part_in_losses=False,
)


class Block(nn.Module):
    """ResNet-18's basic block under torchvision's names (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        shortcut = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.downsample = nn.Identity() if same else nn.Sequential(*shortcut)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.downsample(x))


class ResNet18(nn.Module):
    """torchvision's ResNet-18 with `width` channels in its first stage instead of 64; takes rgb in [-1, 1]."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        inputs = width
        for stage in range(4):
            outputs = width * 2**stage
            blocks = [Block(inputs, outputs, 1 if stage == 0 else 2), Block(outputs, outputs, 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            inputs = outputs
        self.fc = nn.Linear(inputs, classes)

    def forward(self, rgb):
        x = F.relu(self.bn1(self.conv1(((rgb + 1) / 2 - 0.5) / 0.25)))
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in range(4):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))

    def at_test(self, rgb):
        """The resizing that the evaluator does, then the network."""
        return self(F.interpolate(rgb, size=(SIDE, SIDE), mode="bilinear", antialias=True))


class AlexNetMlp(nn.Module):
    """AlexNet's convolutions under a perceptron; dropout between."""

    def __init__(self, hidden: int, classes: int):
        super().__init__()
        pretrained, self.features = LpipsAlex(), nn.ModuleDict()
        for index, stride, padding in LAYERS:
            weight, bias = (getattr(pretrained, f"net_features_{index}_{k}") for k in ("weight", "bias"))
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)
            conv.weight.data, conv.bias.data = weight.clone().float(), bias.clone().float()
            self.features[str(index)] = conv
        self.widths = [256 * 9 + 384, hidden, classes]
        self.head = nn.Sequential(nn.Linear(*self.widths[:2]), nn.ReLU(), nn.Dropout(0.3), nn.Linear(*self.widths[1:]))
        self.register_buffer("shift", torch.tensor(SHIFT)[None, :, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[None, :, None, None], persistent=False)

    def forward(self, rgb):
        x, maps = (rgb - self.shift) / self.scale, []
        for place, conv in enumerate(self.features.values()):
            x = F.relu(conv(F.max_pool2d(x, 3, 2) if place in (1, 2) else x))
            maps.append(x)
        pooled = F.adaptive_avg_pool2d(maps[4], 3).flatten(1)
        return self.head(torch.cat([pooled, maps[2].amax((2, 3))], 1))

    def at_test(self, rgb):
        """The resizing that the evaluator does, then the network."""
        return self(F.interpolate(rgb, size=(SIDE, SIDE), mode="bicubic", align_corners=False).clamp(-1, 1))


def new_judge(args) -> tuple[nn.Module, list]:
    """(network, parameter groups with a learning rate each)."""
    if args.kind == "resnet18":
        model = ResNet18(args.width, len(LABELS))
        return model, [dict(params=model.parameters(), share=1.0)]
    model = AlexNetMlp(args.hidden, len(LABELS))
    return model, [
        dict(params=model.features.parameters(), share=0.15),
        dict(params=model.head.parameters(), share=1.0),
    ]


def train(model, groups, pictures: JudgePictures, args) -> tuple[dict, dict]:
    """Steps until the time is up; (averaged weights, what was done)."""
    optimizer = torch.optim.AdamW(groups, lr=args.rate, weight_decay=0.05)
    run = Resumable(args.checkpoint, model, optimizer, Average(model, 0.998), args.minutes)
    model.train()
    while run.fraction() < 1:
        rate = anneal(args.rate, run.progress.step, run.fraction(), warmup=100, hold=0.3)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        rgb, targets = pictures.draw(args.batch, run.fraction())
        with autocast(args):
            logits = model(rgb)
        loss = -(targets * logits.float().log_softmax(1)).sum(1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        run.average.update(model)
        run.after_step(loss.item(), 100)
    return run.average.state, dict(
        steps=run.progress.step, batch=args.batch, minutes=round(run.progress.seconds / 60, 1)
    )


@torch.no_grad()
def logits_of(model, rgb: torch.Tensor) -> torch.Tensor:
    """(n, 10), as the evaluator computes them."""
    return torch.cat([model.at_test(part).float() for part in rgb.split(64)])


def fitted_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """What the logits are divided by so that the negative log likelihood is least."""
    grid = torch.linspace(0.3, 3.0, 271)
    return grid[torch.stack([F.cross_entropy(logits / t, labels) for t in grid]).argmin()].item()


def calibration_error(logits: torch.Tensor, labels: torch.Tensor, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017)."""
    sure, told = logits.softmax(1).max(1)
    right, place = (told == labels).float(), (sure * bins).long().clamp(max=bins - 1)
    gaps = [
        (right[place == b].mean() - sure[place == b].mean()).abs() * (place == b).float().mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return sum(gaps).item()


def measured(logits: torch.Tensor, people, temperature: float) -> dict:
    """Accuracy as a whole, by expression and by style, and the calibration error."""
    labels = torch.tensor([LABELS.index(row["emotion"]) for row in people.rows])
    right = (logits.argmax(1) == labels).float()
    styles = [row["style"] for row in people.rows]
    by_style = {s: round(right[torch.tensor([x == s for x in styles])].mean().item(), 4) for s in sorted(set(styles))}
    by_expression = {
        e: round(right[labels == LABELS.index(e)].mean().item(), 4) for e in LABELS if (labels == LABELS.index(e)).any()
    }
    return dict(n=len(labels), accuracy=round(right.mean().item(), 4), by_expression=by_expression, by_style=by_style,
                expected_calibration_error=round(calibration_error(logits / temperature, labels), 4))  # fmt: skip


def report(model, args, vae) -> tuple[float, dict]:
    """(temperature, figures on held-out people, as they are and after the autoencoder)."""
    held_out = read_people(args.validation)
    labels = torch.tensor([LABELS.index(row["emotion"]) for row in held_out.rows])
    logits = logits_of(model, from_pixels(held_out.pixels))
    temperature = fitted_temperature(logits, labels)
    figures = dict(validation=measured(logits, held_out, temperature))
    for path in args.test:
        people, name = read_people(path), path.stem
        figures[name] = measured(logits_of(model, from_pixels(people.pixels)), people, temperature)
        if vae is not None:  # a round trip is dear: of some thousand pictures
            some = people.every(max(1, len(people) // 1200))
            logits = logits_of(model, as_seen(vae, from_pixels(some.pixels)))
            figures[f"{name} after the autoencoder"] = measured(logits, some, temperature)
    return temperature, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=["resnet18", "alexnet"], required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--test", type=Path, nargs="*", default=[], help="looked at once, at the end")
    parser.add_argument("--vae", type=Path, help="folder of the autoencoder")
    parser.add_argument("--round-trips", type=int, default=4000, help="training pictures sent through it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=256)
    add_arguments(parser, minutes=25, batch=48, rate=1.5e-3)
    args = parser.parse_args()
    start(args)
    vae = None
    if args.vae:
        from diffusers import AutoencoderKL

        vae = AutoencoderKL.from_pretrained(args.vae, torch_dtype=torch.float32).eval()
    model, groups = new_judge(args)
    pictures = JudgePictures(read_people(*args.data), vae, args.round_trips, LABELS, UNREADABLE)
    state, done = train(model, groups, pictures, args)
    model.load_state_dict(state)
    model.eval()
    temperature, figures = report(model, args, vae)
    config = RESNET | dict(width=args.width) if args.kind == "resnet18" else ALEXNET | dict(head=model.widths)
    save_json(args.out / "config.json", config | dict(temperature=round(temperature, 4)))
    kept = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_half(args.out / "model.safetensors", kept)
    save_json(args.out / "metrics.json", done | dict(seed=args.seed, temperature=temperature) | figures)
    print(json.dumps(done | figures, indent=1))


if __name__ == "__main__":
    main()
