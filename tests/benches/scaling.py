"""Data-parallel efficiency: two processes of one thread against one process of one thread, the same batch each.

    python tests/benches/scaling.py [STEPS]        (from the repository's root, after `make data`; make bench runs it)

On two free cores both processes should keep their own; what is lost is the all-reduce and waiting for the slower one.
Sides take turns three times, the fastest steps of each count: a shared machine only ever makes a step slower. Writes
target/bench/scaling.json. Standard library only.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = "python tests/benches/scaling.py"
ROUNDS = 3


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    seconds = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for processes in seconds:
                seconds[processes] += steps_of(pathlib.Path(folder), processes, steps)
        reduced = trained(pathlib.Path(folder) / "run-1") * 8  # f64
    fastest = {n: statistics.mean(sorted(times)[: len(times) // 3]) for n, times in seconds.items()}
    efficiency = fastest[1] / fastest[2]
    print(f"a step: 1 process {fastest[1]:.3f} s, 2 processes {fastest[2]:.3f} s; efficiency {100 * efficiency:.1f} %")
    print(f"all-reduced: {reduced} bytes a step")
    row = {"name": "step, 2 processes of 1 thread", "unit": "s", "ours": fastest[2], "peer": fastest[1],
           "peer_name": "1 process of 1 thread", "ratio": fastest[2] / fastest[1], "threads": 1, "command": COMMAND}  # fmt: skip
    out = ROOT / "target/bench/scaling.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([row], indent=2) + "\n")


def steps_of(folder, processes, steps):
    """Seconds of each step but the first two."""
    run = folder / f"run-{processes}"
    sets = {
        "train.train_batch_size": 4,
        "train.micro_batch_size": 4,
        "train.num_threads": 1,
        "train.max_train_steps": steps,
        "edit.num_inversion_steps": 40,
        "loss": "{clip: 1.0, reconstruction: 0.6, denoising: 1.0, alignment: 0.1}",
        "data.sources.limit": 8,
        "data.sources.trajectories": folder / "trajectories",
        "validation.validation_steps": 0,
        "output_dir": run,
    }
    command = [ROOT / "target/release/trainer", "--config", "configs/pocket/sadness.yaml", "--resume", "none"]
    command += ["--nproc-per-node", str(processes), *(f"--set={key}={value}" for key, value in sets.items())]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    images = 4 * processes
    return [images / line["perf/images_per_s"] for line in lines[2:]]


def trained(run):
    """Numbers in a run's learned tensors."""
    count = 0
    for file in ("tokens", "delta"):
        (checkpoint,) = run.glob("checkpoint-*")
        with (checkpoint / f"{file}.safetensors").open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
        for shape in shapes:
            size = 1
            for side in shape:
                size *= side
            count += size
    return count


if __name__ == "__main__":
    main()
