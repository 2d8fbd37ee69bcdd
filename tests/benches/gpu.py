"""What one GPU does, in at most ten minutes: NCCL, the demo, and Stable Diffusion 1.5's shape in bf16.

    make bench-gpu        or:  python tests/benches/gpu.py [--short]     (from the repository's root, after `make build data`)

Parts: a world of one over NCCL keeps the contract of the process group (where the test binary is built); four steps of the
demo; then, with random weights of SD 1.5's shape at 512 px: shards, DDIM inversions, a step of textual inversion, a joint step,
and an edit. Each says its images a second, MFU where the recipe counts the work, and the GPU's peak memory, as nvidia-smi sees
it four times a second. Rows go to target/bench/gpu.json, after each part, so that a part that fails loses no other.

Without CUDA, or with --short, every part runs in short on the CPU with the embedded family; NCCL then only has to say what it
lacks. The figures of a short run say nothing: it is there so that the command works on the day when there is a GPU.
Pinned versions: ../peers/requirements.txt (for the random weights; a short run needs the standard library only).
"""

import argparse
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "target/release"
TOKENIZER = ROOT / "assets/clip_tokenizer"
# Dense bf16 TFLOP a second, from NVIDIA's data sheets.
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40": 181, "A10": 125, "4090": 165, "V100": 125, "T4": 65}
BUDGET_S = 600


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="every part in short, on the CPU")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU in bf16; by default by its name")
    options = parser.parse_args()
    name = None if options.short else gpu_name()
    bench = Bench(name, options.peak_tflops or next((t for n, t in PEAK_TFLOPS.items() if name and n in name), None))
    print(f"device: {name or 'CPU, in short'}")
    with tempfile.TemporaryDirectory() as folder:
        bench.run_all(pathlib.Path(folder))
    sys.exit(bool(bench.failed))


def gpu_name():
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    ran = subprocess.run(query, capture_output=True, text=True, check=False)
    return ran.stdout.splitlines()[0].strip() if ran.returncode == 0 and ran.stdout.strip() else None


class Bench:
    def __init__(self, gpu, peak_tflops):
        self.gpu, self.peak_tflops = gpu, peak_tflops
        self.rows, self.failed, self.begun = [], [], time.monotonic()

    def run_all(self, folder):
        self.folder = folder
        parts = [self.nccl, self.demo, self.models, self.shard, self.invert, self.textual_inversion, self.joint, self.edit]
        for part in parts:
            what = part.__doc__.rstrip(".")
            if time.monotonic() - self.begun > BUDGET_S:
                self.failed.append(what)
                print(f"LEFT OUT {what}: {BUDGET_S} s are over", flush=True)
                continue
            begun = time.monotonic()
            with Memory(self.gpu) as memory:
                try:
                    found = part() or {}
                except (subprocess.CalledProcessError, AssertionError, FileNotFoundError) as error:
                    output = getattr(error, "stderr", None) or error
                    self.failed.append(what)
                    print(f"FAILED {what}: {str(output).strip().splitlines()[-1:]}", flush=True)
                    continue
            row = {"name": what, "seconds": round(time.monotonic() - begun, 2), **found}
            if memory.peak_mb:
                row["peak_gpu_mb"] = memory.peak_mb
            self.rows.append({**row, "device": self.gpu or "cpu, short", "command": "make bench-gpu"})
            print("ok " + ", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            out = ROOT / "target/bench/gpu.json"
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(self.rows, indent=1) + "\n")

    @property
    def device(self):
        return "cuda" if self.gpu else "cpu"

    @property
    def precision(self):
        return "bf16" if self.gpu else "no"

    def nccl(self):
        """NCCL, a world of one."""
        suites = sorted((BIN / "deps").glob("suite-*"), key=lambda path: path.stat().st_mtime)
        suites = [path for path in suites if path.suffix == "" and os.access(path, os.X_OK)]
        assert suites, "the test binary is not built: cargo test --release --workspace --locked --no-run"
        call([suites[-1], "nccl_keeps_the_contract_or_says_what_it_lacks"], cwd=ROOT / "tests")

    def demo(self):
        """The demo's recipe, four steps."""
        steps = self.train("configs/pocket/sadness.yaml", "demo", {
            "train.max_train_steps": 4, "data.sources.limit": 8, **({} if self.gpu else {"train.train_batch_size": 2, "train.micro_batch_size": 2}), "edit.num_inversion_steps": 8,
            "data.sources.trajectories": self.folder / "trajectories-demo",
        })  # fmt: skip
        return self.figures(steps)

    def models(self):
        """Random weights of the shape."""
        if not self.gpu:
            self.base, self.clip = ROOT / "assets/pocket", ROOT / "assets/pocket/clip"
            self.preview, self.size = ROOT / "assets/pocket/preview_decoder", 96
        else:
            sys.path.insert(0, str(ROOT / "tests/peers"))
            import full_size

            full_size.write_models(self.folder, TOKENIZER)
            self.base, self.clip, self.preview, self.size = self.folder / "sd15", self.folder / "clip", self.folder / "taesd", 512
        self.count = 64 if self.gpu else 4
        width, height = (640, 480) if self.gpu else (128, 112)
        for number in range(self.count):
            place = self.folder / "photos/train" / ("awe" if number % 2 else "sadness")
            place.mkdir(parents=True, exist_ok=True)
            # Each photo has other pixels, or copies would be encoded once.
            write_png(place / f"{number}.png", width, height, number)

    def shard(self):
        """Shards, both ways round, with CLIP."""
        seconds = self.timed("dataloader", "shard", "--config", "configs/data/folder.yaml", *sets({
            "source.path": self.folder / "photos", "output": self.folder / "data", "vae": f"{self.base}/vae",
            "clip": self.clip, "resolution": self.size, "device": self.device,
        }))  # fmt: skip
        return {"images_per_s": round(self.count / seconds, 3), "loading_included": True}

    def invert(self):
        """DDIM inversions of 40 timesteps."""
        timesteps = 40 if self.gpu else 3
        seconds = self.timed("dataloader", "invert", "--config", "configs/data/pocket-inversions.yaml", *sets({
            "base": self.base, "sources": f"{{shards: {self.folder}/data}}", "num_inversion_steps": timesteps,
            "mixed_precision": self.precision, "device": self.device, "output": self.folder / "inversions",
        }))  # fmt: skip
        return {"images_per_s": round(self.count / seconds, 3), "timesteps": timesteps, "loading_included": True}

    def textual_inversion(self):
        """A step of textual inversion."""
        return self.figures(self.train_shape("textual-inversion", {"delta": "off"}))

    def joint(self):
        """A joint step, tokens and h-space."""
        return self.figures(self.train_shape("joint", {}))

    def edit(self):
        """An edit of one photo."""
        photo = next((self.folder / "photos/train/sadness").iterdir())
        seconds = self.timed("editor", "--run", self.folder / "joint", "--image", photo, "--emotion", "awe", "--output",
                             self.folder / "out.png", "--device", self.device)  # fmt: skip
        assert (self.folder / "out.png").stat().st_size > 0
        return {"images_per_s": round(1 / seconds, 3), "loading_included": True}

    def train_shape(self, name, more):
        return self.train("configs/awe.yaml", name, {
            "model.base": self.base, "model.clip": self.clip, "model.preview_decoder": self.preview,
            "data.emotion_images.shards": self.folder / "data", "data.sources.shards": self.folder / "data",
            "data.emotion_images.filter": "{}", "data.sources.filter": "{}", "data.sources.limit": 8 if self.gpu else 2,
            "data.sources.inversions": self.folder / "inversions", "data.sources.trajectories": self.folder / "trajectories",
            "prompts.source": "a person", "loss.alignment": 0, "edit.num_inversion_steps": 40 if self.gpu else 3,
            "edit.t_edit": 400, "edit.t_boost": 0, "train.train_batch_size": 4 if self.gpu else 1,
            "train.max_train_steps": 12 if self.gpu else 2, "train.lr_warmup_steps": 0,
            "train.mixed_precision": self.precision, "train.channels_last": "true" if self.gpu else "false", **more,
        })  # fmt: skip

    def train(self, recipe, name, more):
        peak = {"watch.peak_tflops": self.peak_tflops} if self.peak_tflops else {}
        self.timed("trainer", "--config", recipe, "--resume", "none", *sets({
            "validation.validation_steps": 0, "checkpoint.checkpointing_steps": 0, "train.device": self.device,
            "output_dir": self.folder / name, **peak, **more,
        }))  # fmt: skip
        lines = (self.folder / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def figures(self, steps):
        """Of the fastest step: the first ones choose kernels and fill caches."""
        best = max(steps, key=lambda step: step["perf/images_per_s"])
        for step in steps:
            assert step["loss/total"] == step["loss/total"] and step["train/skipped_steps"] == 0, step
        keys = ["perf/images_per_s", "perf/step_seconds", "perf/tflops", "perf/mfu_pct", "perf/data_wait_pct"]
        return {key.removeprefix("perf/"): round(best[key], 4) for key in keys if key in best}

    def timed(self, program, *arguments):
        begun = time.monotonic()
        call([BIN / program, *arguments])
        return time.monotonic() - begun


class Memory:
    """The most memory that the GPU has in use, of whatever process."""

    def __init__(self, gpu):
        self.gpu, self.peak_mb, self.stop = gpu, 0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def watch(self):
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while self.gpu and not self.stop.wait(0.25):
            ran = subprocess.run(query, capture_output=True, text=True, check=False)
            numbers = [int(line) for line in ran.stdout.split() if line.strip().isdigit()]
            self.peak_mb = max([self.peak_mb, *numbers[:1]])


def write_png(path, width, height, seed):
    """Smooth colours that differ by `seed`, without any library."""
    rows = b"".join(
        b"\0" + bytes(value for x in range(width) for value in ((x * 255 // width + seed * 7) % 256, y * 255 // height, seed % 256))
        for y in range(height)
    )

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def sets(pairs):
    return [part for key, value in pairs.items() for part in ("--set", f"{key}={value}")]


def call(command, cwd=ROOT):
    subprocess.run([str(part) for part in command], cwd=cwd, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    main()
