"""What every training here shares: seeds, devices, weight averaging, learning rate, saving in half precision."""

import json
import math
import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


def add_arguments(parser, minutes: float, batch: int, rate: float) -> None:
    """The options that all trainings have."""
    parser.add_argument(
        "--minutes", type=float, default=minutes, help="of all goes together; the learning rate anneals over them"
    )
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=rate, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bf16", action="store_true", help="autocast; pays on processors and GPUs with bf16 units")
    parser.add_argument("--seed", type=int, default=0)


def start(args) -> torch.device:
    """Seed everything, set the threads."""
    torch.set_num_threads(args.threads)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    return torch.device(args.device)


def autocast(args):
    """bf16 where asked for."""
    return torch.autocast(torch.device(args.device).type, dtype=torch.bfloat16, enabled=args.bf16)


def anneal(peak: float, step: int, fraction: float, warmup: int, hold: float = 0.0, floor: float = 0.02) -> float:
    """Linear warm-up, then flat until `hold` of the time, then a cosine down to `floor` of the peak."""
    late = max(0.0, (fraction - hold) / (1 - hold))
    return peak * min(1, (step + 1) / warmup) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(late, 1))))


def set_rate(optimizer, rate: float) -> None:
    """The same rate for all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class Average:
    """Exponential moving average of a model's parameters and buffers."""

    def __init__(self, model, decay: float):
        self.decay, self.updates = decay, 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model) -> None:
        """One step; the first updates count more."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def part_of(state: dict, name: str) -> dict:
    """The tensors of one of the two networks, under its own names."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def save_half(path: Path, state: dict) -> None:
    """float32 tensors as float16 safetensors; the file appears whole or not at all."""
    state = {
        k: (v.detach().cpu().half() if v.dtype == torch.float32 else v.detach().cpu()).contiguous()
        for k, v in state.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(state, temporary, metadata={"format": "pt"})
    temporary.chmod(0o644)
    temporary.replace(path)


def save_json(path: Path, value) -> None:
    """Indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")
