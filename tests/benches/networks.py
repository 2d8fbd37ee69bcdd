"""Times our networks and PyTorch with diffusers on the same weights and threads, in one go, and prints the ratios.

    make bench        or:  python tests/benches/networks.py [THREADS]     (from the repository's root)

A ratio is our time over the peer's: below 1 we are faster. Rows go to target/bench/networks.json.
Pinned versions: tests/peers/requirements.txt.
"""
import json
import pathlib
import statistics
import subprocess
import sys
import time

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

ROOT = pathlib.Path(__file__).resolve().parents[2]
POCKET = ROOT / "assets/pocket"
BATCH, REPEATS = 8, 15


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads()
    command = ["cargo", "bench", "-q", "--workspace", "--locked", "--bench", "networks", "--", str(threads), str(REPEATS)]
    # Ours, theirs, ours again: the smaller of ours' two medians would flatter, so their mean is taken.
    first, theirs, second = ours(command), peer(threads), ours(command)
    rows = []
    for name, peer_ms in theirs.items():
        ms = (first[name] + second[name]) / 2
        rows.append({"name": name, "unit": "ms", "ours": round(ms, 3), "peer": round(peer_ms, 3),
                     "peer_name": f"torch {torch.__version__} + diffusers", "ratio": round(ms / peer_ms, 3),
                     "threads": threads, "command": " ".join(command)})
        print(f"{name:36} ours {ms:8.2f} ms   peer {peer_ms:8.2f} ms   ratio {ms / peer_ms:.2f}")
    out = ROOT / "target/bench/networks.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n")


def ours(command):
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {row["name"]: row["ms"] for row in map(json.loads, text.splitlines()) if row}


def peer(threads):
    torch.set_num_threads(threads)
    unet = UNet2DConditionModel.from_pretrained(POCKET / "unet", torch_dtype=torch.float32).eval().requires_grad_(False)
    vae = AutoencoderKL.from_pretrained(POCKET / "vae", torch_dtype=torch.float32).eval().requires_grad_(False)
    text = CLIPTextModel.from_pretrained(POCKET / "text_encoder", torch_dtype=torch.float32).eval().requires_grad_(False)
    latents, images = torch.randn(BATCH, 4, 24, 24), torch.randn(BATCH, 3, 96, 96).clamp(-1, 1)
    ids = torch.full((BATCH, text.config.max_position_embeddings), 7)
    times = torch.full((BATCH,), 500)
    with torch.no_grad():
        context = text(ids)[0]

    def whole_step():
        """diffusers has no seam: an edit of h means a hook on the mid block, a whole pass and a whole graph."""
        delta = torch.zeros(BATCH, unet.config.block_out_channels[-1], 4, 4, requires_grad=True)
        hook = unet.mid_block.register_forward_hook(lambda module, inputs, h: h + delta)
        output = unet(latents, times, context).sample
        hook.remove()
        return torch.autograd.grad(output.square().mean(), delta)[0]

    with torch.no_grad():
        measured = {
            "unet forward": median(lambda: unet(latents, times, context).sample),
            "vae encode": median(lambda: vae.encode(images).latent_dist.mean),
            "vae decode": median(lambda: vae.decode(latents / vae.config.scaling_factor).sample),
            "text encoder": median(lambda: text(ids)[0]),
        }
    return measured | {"unet decoder pass and its backward": median(whole_step)}


def median(run):
    times = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times[2:])


if __name__ == "__main__":
    main()
