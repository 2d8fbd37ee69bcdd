"""How libtorch's threads wait for one another: libgomp's spinning against ours, on an idle machine and a busy one.

    python tests/benches/threads.py [STEPS]        (from the repository's root, after `make data`; make bench runs it)

One process of as many threads as there are cores (at most eight) trains the demo's recipe. GOMP_SPINCOUNT=300000 is what
libgomp does by itself; without the variable the programs set 1000. Beside it: nothing, then one process that keeps a core
busy. Sides take turns three times; the median step of each counts. Writes target/bench/threads.json. Standard library
only.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = "python tests/benches/threads.py"
ROUNDS = 3
THREADS = min(len(os.sched_getaffinity(0)), 8)
LIBGOMPS_OWN = {"GOMP_SPINCOUNT": "300000"}
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for beside, busy in (("idle", 0), ("beside one busy process", 1)):
            seconds = {"ours": [], "peer": []}
            for _ in range(ROUNDS):
                seconds["ours"] += steps_of(pathlib.Path(folder), steps, {}, busy)
                seconds["peer"] += steps_of(pathlib.Path(folder), steps, LIBGOMPS_OWN, busy)
            ours, peer = (statistics.median(seconds[side]) for side in ("ours", "peer"))
            print(f"a step of {THREADS} threads, {beside}: {ours:.3f} s, as libgomp waits by itself {peer:.3f} s")
            rows.append({"name": f"step, {beside}", "unit": "s", "ours": ours, "peer": peer,
                         "peer_name": "GOMP_SPINCOUNT=300000, libgomp's own", "ratio": ours / peer, "threads": THREADS,
                         "command": COMMAND})  # fmt: skip
    out = ROOT / "target/bench/threads.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=2) + "\n")


def steps_of(folder, steps, variables, busy):
    """Seconds of each step but the first two, beside `busy` processes that do nothing else."""
    sets = {
        "train.train_batch_size": 4,
        "train.micro_batch_size": 4,
        "train.num_threads": THREADS,
        "train.max_train_steps": steps,
        "edit.num_inversion_steps": 40,
        "data.sources.limit": 8,
        "data.sources.trajectories": folder / "trajectories",
        "validation.validation_steps": 0,
        "output_dir": folder / "run",
    }
    command = [ROOT / "target/release/trainer", "--config", "configs/pocket/sadness.yaml", "--resume", "none"]
    command += [f"--set={key}={value}" for key, value in sets.items()]
    environment = {name: value for name, value in os.environ.items() if name not in WAITING} | variables
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        subprocess.run(command, cwd=ROOT, check=True, env=environment, stderr=subprocess.DEVNULL)
    finally:
        for other in others:
            other.kill()
            other.wait()
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    return [4 / line["perf/images_per_s"] for line in lines[2:]]


if __name__ == "__main__":
    main()
