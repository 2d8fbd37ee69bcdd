"""diffusers makes the editor's picture, with the custom pipeline that `editor export` writes.

    python tests/peers/custom_pipeline.py RUN_DIR assets/pocket     (from the repository's root, after `make build`)

RUN_DIR lends its base model alone. The runs that are compared are made here, with tokens and deltas that move the picture
visibly: both processes, both conditions, each detail, with and without tokens or deltas, one emotion and a mixture, guidance and
mask. Every
picture must be within 2 of 255 levels of the editor's, and far from the photo. One photo is scaled before its edit, where Pillow
and the editor round a few pixels otherwise; the others are edited at their own size. Pinned versions: requirements.txt.
"""
import io
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow.parquet as pq
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
EDITOR = ROOT / "target/release/editor"
EMOTIONS = ["awe", "fear"]
BOUND = 2
SCALED = (200, 130)
# Process, condition, detail, tokens, delta, and what is asked for: an emotion or weights, the strength.
RUNS = {
    "asymmetric, decoder, gated": ("asymmetric", "decoder", "gated", True, True, "awe", 1.0),
    "scaled first: asymmetric, both, residual": ("asymmetric", "both", "residual", True, True, "fear", -0.7),
    "anchored, decoder, none": ("anchored", "decoder", "none", True, True, "awe", 1.5),
    "anchored, both, gated, a mixture": ("anchored", "both", "gated", True, True, {"awe": 0.7, "fear": 0.3}, 1.0),
    "tokens alone": ("asymmetric", "both", "gated", True, False, "awe", 1.0),
    "deltas alone, one an emotion": ("asymmetric", "decoder", "residual", False, True, "fear", 2.0),
    "guided, in its mask": ("asymmetric", "both", "gated", True, True, "awe", 1.0),
    "anchored, guided, in its mask": ("anchored", "decoder", "residual", True, True, "awe", 0.6),
}
GUIDED = {"guidance_scale": 2.0, "mask": {"threshold": 0.4}}


def main():
    base = json.loads((pathlib.Path(sys.argv[1]) / "edit_config.json").read_text())["base"]
    model = str(ROOT / sys.argv[2])
    rows = pq.read_table(ROOT / sys.argv[2] / "data/validation.parquet", columns=["image"]).slice(0, 1).to_pylist()
    face = Image.open(io.BytesIO(rows[0]["image"]["bytes"])).convert("RGB")
    photos = [face.resize(size, Image.LANCZOS) for size in (face.size, (112, 80))]
    with tempfile.TemporaryDirectory() as place:
        for n, (name, settings) in enumerate(RUNS.items()):
            folder = pathlib.Path(place) / str(n)
            make_run(folder / "run", base, model, *settings[:5], GUIDED if "guided" in name else {})
            call(["export", "--run", folder / "run", "--output", folder / "export"])
            compare(name, folder, model, face.resize(SCALED, Image.LANCZOS) if name.startswith("scaled") else photos[n % 2], *settings[5:])


def make_run(folder, base, model, process, condition, detail, tokens, delta, more):
    """A run's folder with random tensors: the same kinds of numbers as a long training leaves."""
    random = torch.Generator().manual_seed(0)
    sizes = {name: json.loads((pathlib.Path(model) / name / "config.json").read_text()) for name in ("unet", "text_encoder")}
    channels, width = sizes["unet"]["block_out_channels"], sizes["text_encoder"]["hidden_size"]
    config = {
        "format_version": 1, "base": base, "loss_clip": None, "emotions": EMOTIONS,
        "tokens": {"placeholder_token": "<{emotion}>", "num_vectors": 2} if tokens else None,
        "delta": {"condition_on_token": tokens} if delta else None,
        "prompts": {"source": "a person", "target": "a person showing {token}, with {emotion}"},
        "edit": {"process": process, "condition": condition, "num_inversion_steps": 12, "t_edit": 350, "t_boost": 0, "detail": detail}
        | more,
        "resolution": 96, "seed": 0,
    }
    (folder / "learned_embeds").mkdir(parents=True)
    (folder / "edit_config.json").write_text(json.dumps(config))
    normal = lambda *shape, scale: torch.randn(*shape, generator=random) * scale
    if tokens:
        for emotion in EMOTIONS:
            save_file({f"<{emotion}>": normal(2, width, scale=0.1)}, folder / "learned_embeds" / f"{emotion}.safetensors")
    if delta:
        c, e = channels[-1], 4 * channels[0]
        shapes = {"conv1.weight": (c, c, 1, 1), "conv1.bias": (c,), "temb_proj.weight": (c, e), "temb_proj.bias": (c,),
                  "norm2.weight": (c,), "norm2.bias": (c,), "conv2.weight": (c, c, 1, 1), "conv2.bias": (c,)}
        if tokens:
            shapes |= {"film.weight": (2 * c, width), "film.bias": (2 * c,)}
        names = ["shared"] if tokens else EMOTIONS
        save_file({f"{name}.{key}": normal(*shape, scale=0.1) + (key == "norm2.weight") for name in names for key, shape in shapes.items()},
                  folder / "h_delta.safetensors")


def compare(name, folder, model, photo, emotion, strength):
    photo.save(folder / "photo.png")
    asked = emotion if isinstance(emotion, str) else ",".join(f"{e}:{w}" for e, w in emotion.items())
    call(["--run", folder / "run", "--model", model, "--image", folder / "photo.png", "--output", folder / "ours.png", "--emotion", asked,
          f"--strength={strength}", "--device", "cpu", "--offline"])
    pipeline = DiffusionPipeline.from_pretrained(model, custom_pipeline=str(folder / "export/pipeline.py"), trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    theirs = np.asarray(pipeline(photo, emotion, strength=strength).images[0]).astype(int)
    same = np.asarray(pipeline(photo, emotion, strength=0.0).images[0]).astype(int)
    ours, before = (np.asarray(Image.open(folder / f"{what}.png")).astype(int) for what in ("ours", "photo"))
    assert ours.shape == theirs.shape == before.shape, f"{ours.shape}, {theirs.shape}, {before.shape}"
    apart, moved = np.abs(ours - theirs).max(), np.abs(theirs - before).max()
    print(f"{name}: at most {apart} of 255 apart; the edit moves the photo by up to {moved}")
    assert moved > 10 * BOUND, f"{name}: the edit hardly moves the photo, so the comparison says nothing"
    assert apart <= BOUND, f"{name}: {apart} of 255 apart"
    if "none" not in name:
        assert (same == before).all(), f"{name}: strength 0 is not the photo"


def call(arguments):
    done = subprocess.run([EDITOR, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    main()
