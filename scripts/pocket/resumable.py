"""A training that can be killed at any moment and goes on from its last checkpoint.

The time a training has had counts, not the hour at which it began: the learning rate anneals over `--minutes` of work,
in however many goes.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from training import Average


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0
    seconds: float = 0.0
    history: list = field(default_factory=list)


class Resumable:
    """Model, optimiser and averaged weights, saved every so often to one file that is replaced whole."""

    def __init__(self, path: Path, model, optimizer, average: Average, minutes: float, every_seconds: float = 120):
        self.path, self.model, self.optimizer, self.average = path, model, optimizer, average
        self.limit, self.every = minutes * 60, every_seconds
        self.progress = Progress()
        if path.exists():
            self.load()
        self.started = time.time() - self.progress.seconds
        self.saved = time.time()

    def load(self) -> None:
        """Takes up the checkpoint."""
        kept = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.average.state, self.average.updates = kept["average"], kept["updates"]
        self.progress = Progress(**kept["progress"])
        print(f"goes on from step {self.progress.step}, {self.progress.seconds / 60:.1f} min", flush=True)

    def save(self) -> None:
        """Writes the checkpoint aside and renames it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".tmp")
        state = dict(
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            average=self.average.state,
            updates=self.average.updates,
            progress=vars(self.progress),
        )
        torch.save(state, aside)
        aside.replace(self.path)
        self.saved = time.time()

    def fraction(self) -> float:
        """How much of the time is over: 0 … 1."""
        return (time.time() - self.started) / self.limit

    def after_step(self, loss: float, report_every: int = 50) -> None:
        """Counts a step, says how it goes, saves when it is time."""
        progress = self.progress
        progress.step += 1
        progress.seconds = time.time() - self.started
        if progress.step % report_every == 0:
            progress.history.append([progress.step, round(loss, 5)])
            print(f"step {progress.step}, {progress.seconds:.0f} s, loss {loss:.4f}", flush=True)
        if time.time() - self.saved > self.every or self.fraction() >= 1:
            self.save()
