"""Times LPIPS, SSIM, PSNR and FID against the libraries that define them, on the same pictures and threads, in one go.

    make bench        or:  python tests/benches/evaluator.py [THREADS]     (from the repository's root)

Eight pairs of 256 × 256 photos (tests/fixtures/metrics, enlarged); for FID two sets of 2,000 vectors with 512 features,
from vectors to distance. Both sides must find the same values. A ratio is our time over the peer's: below 1 we are
faster. Rows go to target/bench/evaluator.json. Of three rounds, taken in turns, the fastest repetition counts on both
sides: the machine is shared. Pinned versions: tests/peers/requirements.txt.
"""
import json
import pathlib
import subprocess
import sys
import time

import lpips
import numpy as np
import scipy
import scipy.linalg
import skimage
import torch
import torchmetrics
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.image.fid import _compute_fid

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "target/bench/evaluator"
PHOTOS = ["astronaut", "chelsea", "coffee", "rocket"]
SIDE, VECTORS, FEATURES, REPEATS, ROUNDS = 256, 2000, 512, 5, 3


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads()
    torch.set_num_threads(threads)
    make_inputs()
    command = ["cargo", "bench", "-q", "--workspace", "--locked", "--bench", "metrics", "--", str(FOLDER), str(threads), str(REPEATS)]
    peers = peer_runs()
    ours, theirs = {}, {}
    for _ in range(ROUNDS):
        for name, ms, value in measured(command):
            ours[name] = (min(ms, ours.get(name, (ms,))[0]), value)
        for row in peers:
            ms, value = fastest(peers[row][1])
            theirs[row] = (min(ms, theirs.get(row, (ms,))[0]), value)
    rows = []
    for row, (peer_ms, peer_value) in theirs.items():
        (ms, value), peer_name = ours[row.split(" vs ")[0]], peers[row][0]
        assert abs(value - peer_value) < 1e-4 * max(1, abs(peer_value)), (row, value, peer_value)
        rows.append({"name": row, "unit": "ms", "ours": round(ms, 3), "peer": round(peer_ms, 3), "peer_name": peer_name,
                     "ratio": round(ms / peer_ms, 3), "threads": threads, "command": "python tests/benches/evaluator.py"})  # fmt: skip
        print(f"{row:40} ours {ms:8.2f} ms   {peer_name:22} {peer_ms:8.2f} ms   ratio {ms / peer_ms:.2f}")
    (ROOT / "target/bench/evaluator.json").write_text(json.dumps(rows, indent=1) + "\n")


def make_inputs():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for k in range(8):
        for side, suffix in (("a", ""), ("b", "_edit")):
            photo = Image.open(ROOT / f"tests/fixtures/metrics/{PHOTOS[k % 4]}{suffix}.png").convert("RGB")
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if k >= 4 else photo
            photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(FOLDER / f"{side}{k}.png")
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(FEATURES, FEATURES, generator=generator) / FEATURES**0.5
    draw = lambda: torch.randn(VECTORS, FEATURES, generator=generator)
    save_file({"a": draw(), "b": (draw() @ mixing + 0.1).contiguous()}, FOLDER / "features.safetensors")


def measured(command):
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [(row["name"], row["fastest"], row["value"]) for row in map(json.loads, text.splitlines()) if row]


def peer_runs():
    """By row: the library, and a call that gives the value that our side prints."""
    sys.path.insert(0, str(ROOT / "tests/fixtures/metrics"))
    from make import lpips_network

    network = lpips_network()
    read = lambda side, k: np.asarray(Image.open(FOLDER / f"{side}{k}.png"))
    a, b = ([read(side, k) / 255.0 for k in range(8)] for side in "ab")
    wide_a, wide_b = (torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2).float().contiguous() * 2 - 1 for x in (a, b))
    window = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=2)
    features = load_file(FOLDER / "features.safetensors")

    @torch.no_grad()
    def distance():
        return network(wide_b, wide_a)[0].item()

    def with_scipy():
        x, y = (features[side].double().numpy() for side in "ab")
        cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        root = scipy.linalg.sqrtm(cov_x @ cov_y).real
        return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x + cov_y - 2 * root))

    def with_torchmetrics():
        x, y = (features[side].double() for side in "ab")
        return _compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()).item()

    name = f"lpips 0.1.4, torch {torch.__version__}"
    return {
        "lpips alex": (name, distance),
        "lpips alex, one source and four edits": (name, lambda: sum(distance() for _ in range(4))),
        "ssim": (f"scikit-image {skimage.__version__}", lambda: [structural_similarity(x, y, **window) for x, y in zip(b, a)][0]),
        "psnr": (f"scikit-image {skimage.__version__}", lambda: [peak_signal_noise_ratio(y, x, data_range=1.0) for x, y in zip(b, a)][0]),
        "fid vs scipy": (f"scipy {scipy.__version__}", with_scipy),
        "fid vs torchmetrics": (f"torchmetrics {torchmetrics.__version__}", with_torchmetrics),
    }  # fmt: skip


def fastest(run):
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        value = run()
        times.append((time.perf_counter() - started) * 1e3)
    return min(times[1:]), value


if __name__ == "__main__":
    main()
