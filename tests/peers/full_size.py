"""Stable Diffusion 1.5 at full size, with random weights: shards, a dry run and one training step of configs/awe.yaml.

    python tests/peers/full_size.py [--size 512] [--device cpu]     (from the repository's root, after `make build`)

Real weights are not needed to know that every network of that shape is read, fits and trains: the folders are written
by diffusers and transformers with their published configurations (860 M UNet, CLIP ViT-L/14, AutoencoderKL, TAESD's
layout), the tokenizer is CLIP's own if --tokenizer names a folder with vocab.json and merges.txt. Takes 6 GB of disk.
Prints what each stage took. Pinned versions: requirements.txt.
"""
import argparse
import json
import pathlib
import resource
import shutil
import subprocess
import tempfile
import time

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "target/release"
POCKET = ROOT / "assets/pocket"
VOCABULARY = 49408
SIZES_OF_TEXT = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "projection_dim": 768, "vocab_size": VOCABULARY, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
}  # fmt: skip
SIZES_OF_VISION = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 14, "projection_dim": 768, "hidden_act": "quick_gelu",
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--timesteps", type=int, default=3, help="of the inversion; the recipe has 40")
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="a folder with CLIP's vocab.json and merges.txt")
    args = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        timed("random weights of SD 1.5's shape", lambda: write_models(folder, args.tokenizer))
        write_photos(folder / "photos")
        models = [f"vae={folder}/sd15", f"clip={folder}/clip", f"resolution={args.size}", f"device={args.device}"]
        shard = sets([f"source.path={folder}/photos", f"output={folder}/data", *models])
        timed("shards of 4 photos", lambda: call("dataloader", "shard", "--config", "configs/data/folder.yaml", *shard))
        train = sets([
            f"model.base={folder}/sd15", f"model.clip={folder}/clip", f"model.preview_decoder={folder}/taesd",
            f"data.emotion_images.shards={folder}/data", f"data.sources.shards={folder}/data",
            f"data.sources.trajectories={folder}/trajectories", "data.sources.limit=1", "loss.alignment=0",
            f"edit.num_inversion_steps={args.timesteps}", "edit.t_edit=400", "edit.t_boost=0", "train.train_batch_size=1",
            "train.max_train_steps=1", "train.lr_warmup_steps=0", "validation.validation_steps=0",
            f"train.mixed_precision={'bf16' if args.device == 'cuda' else 'no'}", f"train.device={args.device}",
            f"output_dir={folder}/run",
        ])  # fmt: skip
        recipe = ["--config", "configs/awe.yaml", *train]
        timed("trainer --dry-run", lambda: call("trainer", *recipe, "--dry-run"))
        timed("trainer, 1 step", lambda: call("trainer", *recipe))
        check(folder / "run")
        photo = next((folder / "photos/train/awe").iterdir())
        edit = ["--run", folder / "run", "--image", photo, "--emotion", "awe", "--output", folder / "out.png"]
        timed("editor", lambda: call("editor", *edit, "--device", args.device))
        assert Image.open(folder / "out.png").size == Image.open(photo).size
    print("full size: ok")


def write_models(folder, tokenizer):
    """The two folders that configs/awe.yaml names, and a preview decoder; fp16, as they are published."""
    pipeline = folder / "sd15"
    save(UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280),
    ), pipeline / "unet")  # fmt: skip
    save(AutoencoderKL(
        sample_size=512, latent_channels=4, layers_per_block=2, block_out_channels=(128, 256, 512, 512),
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, scaling_factor=0.18215,
    ), pipeline / "vae")  # fmt: skip
    save(CLIPTextModel(CLIPTextConfig(**SIZES_OF_TEXT, bos_token_id=49406, eos_token_id=49407)), pipeline / "text_encoder")
    DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, timestep_spacing="leading",
    ).save_pretrained(pipeline / "scheduler")  # fmt: skip
    index = json.loads((POCKET / "model_index.json").read_text())
    (pipeline / "model_index.json").write_text(json.dumps(index))
    save(CLIPModel(CLIPConfig(text_config={**SIZES_OF_TEXT, "bos_token_id": 49406, "eos_token_id": 49407},
                              vision_config=SIZES_OF_VISION, projection_dim=768)), folder / "clip")  # fmt: skip
    save(AutoencoderTiny(), folder / "taesd")
    for name in ["sd15/tokenizer", "clip"]:
        write_tokenizer(folder / name, tokenizer)
    preprocess = json.loads((POCKET / "clip/preprocessor_config.json").read_text())
    preprocess.update(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}, do_center_crop=True)
    (folder / "clip/preprocessor_config.json").write_text(json.dumps(preprocess))


def save(model, folder):
    model.half().save_pretrained(folder)


def write_tokenizer(folder, tokenizer):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ["vocab.json", "merges.txt"]:
        shutil.copy(tokenizer / name, folder)
    source = POCKET / "tokenizer"
    shutil.copy(source / "special_tokens_map.json", folder)
    config = json.loads((source / "tokenizer_config.json").read_text())
    config["model_max_length"] = 77
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_photos(folder):
    """The committed landscape, cut and mirrored into four photos: two of awe, two to edit."""
    photo = Image.open(ROOT / "tests/fixtures/images/landscape.png").convert("RGB").resize((640, 480))
    for number, label in enumerate(["awe", "awe", "sadness", "sadness"]):
        place = folder / "train" / label
        place.mkdir(parents=True, exist_ok=True)
        photo.rotate(3 * number).save(place / f"{number}.png")


def sets(pairs):
    return [part for pair in pairs for part in ("--set", pair)]


def call(program, *arguments):
    subprocess.run([BIN / program, *map(str, arguments)], cwd=ROOT, check=True)


def timed(what, work):
    started = time.monotonic()
    work()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"== {what}: {time.monotonic() - started:.1f} s; largest process so far {peak:.1f} GiB", flush=True)


def check(run):
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    for name in ["loss/total", "loss/direction", "loss/denoising", "norm/grad"]:
        assert line[name] == line[name] and abs(line[name]) < 1e6, (name, line[name])
    print("== losses of the step:", {k: round(v, 4) for k, v in line.items() if k.startswith(("loss", "norm"))})


if __name__ == "__main__":
    main()
