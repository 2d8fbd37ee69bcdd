"""Times one optimiser step against a plain implementation in PyTorch, diffusers and transformers, and prints the ratios.

    make bench        or:  python tests/benches/step.py [--threads N] [--full-vae]     (from the repository's root, after `make data`)

The embedded family, batch 8, the same threads on both sides, P_t decoded for CLIP by the same tiny decoder (by the full VAE
with --full-vae). The peer does what scripts do: two whole UNet passes, the edited one with its whole graph, both decoded and
seen by CLIP, AdamW. Ours shares the encoder pass and goes back through the up path only (`condition: decoder`); with
`trajectory: source` the source's ε is the inversion's own record, its pass falls away, and what CLIP sees of its P_t is made
once before the first step and kept (that time is not in the step; a pair of source and timestep that is met again costs nothing). A
ratio is our time over the peer's: below 1 we are faster. Rows go to target/bench/step.json. Of three rounds, taken in turns, the
fastest step counts on both sides: the machine is shared, and its steal doubles many a step. Pinned versions:
../peers/requirements.txt.
"""
import argparse
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/peers"))
from joint_gradient import Models  # noqa: E402

BATCH, STEPS, ROUNDS = 8, 12, 3
PREVIEW = "assets/pocket/preview_decoder"
JOINT = ["edit.condition=decoder", f"train.train_batch_size={BATCH}", f"train.micro_batch_size={BATCH}",
         f"train.max_train_steps={STEPS}", "validation.validation_steps=0", "checkpoint.checkpointing_steps=0"]  # fmt: skip
PROMPT = "a person showing {token}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--full-vae", action="store_true", help="P_t through the full VAE")
    options = parser.parse_args()
    threads = options.threads
    torch.set_num_threads(threads)
    models = Models(ROOT / "assets/pocket")
    preview = AutoencoderTiny.from_pretrained(ROOT / PREVIEW).float().requires_grad_(False).eval()
    decode = models.decode if options.full_vae else lambda latents: preview.decode(latents).sample
    joint_sets = [*JOINT, f"model.preview_decoder={'null' if options.full_vae else PREVIEW}"]
    rows = []
    for trajectory, joint in itertools.product(["edited", "source"], [False, True]):
        sets = [*joint_sets, f"edit.trajectory={trajectory}", *([] if joint else ["tokens=off"])]
        name = f"{'joint' if joint else 'asyrp'} step, trajectory: {trajectory}"
        rounds = [(ours_s(sets, threads), peer_s(models, decode, joint)) for _ in range(ROUNDS)]
        ours, peer = (min(side) for side in zip(*rounds))
        rows.append({"name": name, "unit": "s", "ours": round(ours, 4), "peer": round(peer, 4), "threads": threads,
                     "peer_name": f"torch {torch.__version__} + diffusers", "ratio": round(ours / peer, 3),
                     "command": "python tests/benches/step.py"})  # fmt: skip
        print(f"{name:32} ours {ours:.3f} s   torch + diffusers {peer:.3f} s   ratio {ours / peer:.2f}")
    target = ROOT / "target/bench/step.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n")


# The step that PyTorch computes below, whatever the recipe has today.
WITH_CLIP = [
    "loss={clip: 1.0, reconstruction: 0.6, denoising: 1.0, alignment: 0.1}", "edit.condition=decoder", "edit.guidance_scale=1", "edit.t_edit=350",
]


def ours_s(sets, threads):
    with tempfile.TemporaryDirectory() as folder:
        command = [ROOT / "target/release/trainer", "--config", "configs/pocket/sadness.yaml"]
        for pair in [*WITH_CLIP, *sets, f"train.num_threads={threads}", f"output_dir={folder}/run"]:
            command += ["--set", pair]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        steps = [json.loads(line) for line in open(f"{folder}/run/metrics.jsonl")]
    return BATCH / max(step["perf/images_per_s"] for step in steps)


def peer_s(models, decode, joint):
    h, temb = models.unet.config.block_out_channels[-1], models.unet.config.block_out_channels[0] * 4
    torch.manual_seed(0)
    layers = torch.nn.ModuleDict({
        "conv1": torch.nn.Conv2d(h, h, 1), "temb_proj": torch.nn.Linear(temb, h), "norm2": torch.nn.GroupNorm(32, h, eps=1e-6),
        "conv2": torch.nn.Conv2d(h, h, 1),
    })  # fmt: skip
    delta = dict(layers.named_parameters())
    tokens = torch.nn.Parameter(0.1 * torch.randn(2, models.text.config.hidden_size))
    optimizer = torch.optim.AdamW([*delta.values(), *([tokens] if joint else [])], lr=1e-4)
    z, image, noise = torch.randn(3, BATCH, 4, 24, 24)
    direction = F.normalize(torch.randn(models.clip.config.projection_dim), dim=0)
    own_context = models.contexts([""], []).expand(BATCH, -1, -1)
    alpha = models.alphas[700].float()
    times = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        context = models.contexts([PROMPT], tokens).expand(BATCH, -1, -1) if joint else own_context
        with torch.no_grad():
            own = models.output(z, 700, own_context)
        edited = models.output(z, 700, context, None, delta)
        moved, still = [(z - (1 - alpha).sqrt() * e) / alpha.sqrt() for e in (edited, own)]
        with torch.no_grad():
            seen = F.normalize(models.clip_images(decode(still)), dim=-1)
        shown = F.normalize(models.clip_images(decode(moved)), dim=-1)
        loss = 1 - (shown * F.normalize(seen + direction, dim=-1)).sum(-1).mean() + 0.6 * (moved - still).abs().mean()
        if joint:
            t = torch.randint(0, 1000, (BATCH,))
            alphas = models.alphas[t].float().view(-1, 1, 1, 1)
            noisy = alphas.sqrt() * image + (1 - alphas).sqrt() * noise
            loss = loss + (models.output(noisy, t, context) - noise).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    main()
