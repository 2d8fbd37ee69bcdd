"""Models as diffusers and transformers lay them on disk, of several versions, are read to the weights that were saved.

python tests/peers/model_layouts.py        (from the repository's root, after `make build`)

Each pair of VERSIONS is installed beside this interpreter's torch into .venv/models-<diffusers>, writes small random models
in every variant and sharding it knows, and keeps what it wrote; `crates/diffusion/examples/dump` then reads each folder. The newest
pair also takes apart its pipelines into single files with the original's names, as diffusers' own conversion script does, so
that the inverse of that script is checked.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
# What CompVis's DDPM registers beside the networks: the checkpoints of 1.x and 2.x hold it.
SCHEDULE_BUFFERS = (
    "betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod sqrt_one_minus_alphas_cumprod "
    "log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod sqrt_recipm1_alphas_cumprod posterior_variance "
    "posterior_log_variance_clipped posterior_mean_coef1 posterior_mean_coef2"
).split()
VERSIONS = {
    "0.30": ["diffusers==0.30.3", "transformers==4.40.2", "tokenizers==0.19.1", "huggingface_hub==0.36.0"],
    "0.36": ["diffusers==0.36.0", "transformers==4.57.3", "tokenizers==0.22.1", "huggingface_hub==0.36.0"],
    "0.42": [],  # what the other checks here use: requirements.txt
}


def main():
    if sys.argv[1:2] == ["write"]:
        write(pathlib.Path(sys.argv[2]))
        return
    subprocess.run(["cargo", "build", "--release", "--quiet", "--workspace", "--example", "dump"], cwd=ROOT, check=True)
    failed = checked = 0
    for name, packages in VERSIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            written(name, packages, folder)
            for case in json.loads((pathlib.Path(folder) / "cases.json").read_text()):
                checked += 1
                failed += not check(name, pathlib.Path(folder), case)
    print(f"model layouts: {checked - failed} of {checked} folders and files are read to the weights that were saved")
    sys.exit(bool(failed))


def written(name, packages, folder):
    """Let one pair of versions write its models; a registry that cannot be reached skips the check."""
    env = dict(os.environ, HF_HUB_OFFLINE="1")
    if packages:
        site = ROOT / ".venv" / f"models-{name}"
        if not (site / "ready").exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            installed = subprocess.run([*pip, "--upgrade", "--target", str(site), *packages], capture_output=True, text=True)
            if installed.returncode:
                print(f"SKIPPED: {' '.join(packages)} cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
                sys.exit(SKIPPED)
            (site / "ready").touch()
        env["PYTHONPATH"] = str(site)
    subprocess.run([sys.executable, __file__, "write", folder], env=env, check=True)


def check(version, folder, case):
    """Whether what is read of a case is what was saved."""
    import torch
    from safetensors.torch import load_file

    label = f"diffusers {version}: {case['name']}"
    output = folder / "read.safetensors"
    dump = [ROOT / "target/release/examples/dump", "--part", case["part"], "--model", folder / case["path"]]
    ran = subprocess.run([*dump, "--output", output], capture_output=True, text=True)
    if ran.returncode:
        print(f"FAILED {label}: {ran.stderr.strip()}")
        return False
    found, saved = load_file(output), load_file(folder / case["saved"])
    bare = lambda tensors: {k.removeprefix("text_model."): v for k, v in tensors.items() if "position_ids" not in k}
    found, saved = bare(found), bare(saved)
    if case["part"] == "text-encoder":
        found.pop("text_projection.weight", None), saved.pop("text_projection.weight", None)
    wrong = sorted(set(found) ^ set(saved)) + [k for k in found if k in saved and not torch.equal(found[k], saved[k])]
    if wrong:
        print(f"FAILED {label}: {len(wrong)} of {len(saved)} tensors differ, first {wrong[0]}")
    return not wrong


# What follows runs under the version that writes.


def write(folder):
    import torch

    cases = []
    keep = Keeper(folder, cases)
    for name, (part, model) in networks().items():
        torch.manual_seed(len(name))
        with torch.no_grad():
            [p.normal_(0, 0.02) for p in model.parameters()]
        layouts(keep, name, part, model)
    import diffusers

    if tuple(int(n) for n in diffusers.__version__.split(".")[:2]) >= (0, 42):
        single_files(keep)
    (folder / "cases.json").write_text(json.dumps(cases))


class Keeper:
    """Notes each case with the tensors that must be read of it."""

    def __init__(self, folder, cases):
        self.folder, self.cases, self.saved = folder, cases, 0

    def case(self, name, part, path, state):
        from safetensors.torch import save_file

        self.saved += 1
        file = f"saved-{self.saved}.safetensors"
        floats = {k: v.detach().float().contiguous().clone() for k, v in state.items() if v.is_floating_point()}
        save_file(floats, str(self.folder / file))
        self.cases.append({"name": name, "part": part, "path": path, "saved": file})


def unet(**changes):
    from diffusers import UNet2DConditionModel

    shape = dict(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=2, cross_attention_dim=64, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return UNet2DConditionModel(**(shape | changes))


def vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 64), layers_per_block=2, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def text_config(**changes):
    from transformers import CLIPTextConfig

    shape = dict(
        vocab_size=99, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=1, projection_dim=64,
        bos_token_id=97, eos_token_id=98, pad_token_id=98,
    )  # fmt: skip
    return CLIPTextConfig(**(shape | changes))


def networks():
    from diffusers import AutoencoderTiny
    from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig

    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=64,
    )  # fmt: skip
    both = CLIPConfig(text_config=text_config().to_dict(), vision_config=vision.to_dict(), projection_dim=64)
    tiny = dict(encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4)
    return {
        "unet": ("unet", unet()),
        "vae": ("vae", vae()),
        "tiny_vae": ("tiny-vae", AutoencoderTiny(**tiny)),
        "text_encoder": ("text-encoder", CLIPTextModel(text_config())),
        "text_encoder with projection": ("text-encoder", CLIPTextModelWithProjection(text_config())),
        "clip": ("clip", CLIPModel(both)),
    }


def layouts(keep, name, part, model):
    """Every way in which save_pretrained can write a model, and torch.compile's names."""
    import copy

    import torch

    kinds = {None: torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "non_ema": torch.float32}
    for variant, kind in kinds.items():
        cast = copy.deepcopy(model).to(kind)
        for size in [None, "100KB"]:
            path = f"{name}-{variant}-{size}".replace(" ", "-")
            options = {"variant": variant} if variant else {}
            options |= {"max_shard_size": size} if size else {}
            cast.save_pretrained(keep.folder / path, **options)
            shards = len(list((keep.folder / path).glob("*.safetensors")))
            assert not size or shards > 1, f"{path}: one file"
            keep.case(f"{name}, variant {variant}, {shards} file(s)", part, path, cast.state_dict())
    path = f"{name}-compiled".replace(" ", "-")
    model.save_pretrained(keep.folder / path)
    rename(keep.folder / path, lambda key: "_orig_mod." + key)
    keep.case(f"{name}, torch.compile's names", part, path, model.state_dict())
    older_shards(keep, name, part, model)


def rename(folder, change):
    from safetensors.torch import load_file, save_file

    (file,) = folder.glob("*.safetensors")
    save_file({change(k): v for k, v in load_file(file).items()}, str(file), metadata={"format": "pt"})


def older_shards(keep, name, part, model):
    """diffusers before 0.31 put the variant of sharded weights elsewhere in the names; its own files are made so too."""
    import torch

    path = keep.folder / f"{name}-older".replace(" ", "-")
    half = model.to(torch.float16)
    half.save_pretrained(path, max_shard_size="100KB")
    for file in path.glob("*-of-*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    (index,) = path.glob("*.safetensors.index.json")
    text = index.read_text()
    index.unlink()
    stem = index.name.removesuffix(".safetensors.index.json")
    (path / f"{stem}.safetensors.fp16.index.json").write_text(text.replace(".safetensors\"", ".fp16.safetensors\""))
    keep.case(f"{name}, variant fp16 in the older spelling", part, path.name, half.state_dict())


def single_files(keep):
    """A Stable Diffusion of each family in one file."""
    import torch
    from transformers import CLIPTextModel
    from safetensors.torch import save_file

    families = {
        "1.x": (unet(), CLIPTextModel(text_config(vocab_size=49408)), clip_text_names),
        "2.x": (
            unet(use_linear_projection=True, block_out_channels=(64, 128), attention_head_dim=(1, 2)),
            CLIPTextModel(text_config(vocab_size=49408, hidden_act="gelu")),
            open_clip_names,
        ),
    }
    for family, (noise, text, text_names) in families.items():
        parts = {"unet": noise, "vae": vae(), "text-encoder": text}
        whole = {"model_ema.decay": torch.tensor(0.5), "global_step": torch.tensor(7)}
        whole |= {name: torch.zeros(1000) for name in SCHEDULE_BUFFERS}
        for part, model in parts.items():
            torch.manual_seed(len(part))
            with torch.no_grad():
                [p.normal_(0, 0.02) for p in model.parameters()]
        whole |= {"model.diffusion_model." + k: v for k, v in unet_names(noise.state_dict(), 2, 2).items()}
        whole |= {"first_stage_model." + k: v for k, v in vae_names(parts["vae"].state_dict(), 2).items()}
        whole |= text_names(text.state_dict())
        path = f"single-{family}.safetensors"
        save_file({k: v.detach().contiguous().clone() for k, v in whole.items()}, str(keep.folder / path))
        for part, model in parts.items():
            keep.case(f"single file {family}, {part}", part, path, model.state_dict())


def unet_names(state, levels, layers):
    """diffusers' scripts/convert_diffusers_to_original_stable_diffusion.py, convert_unet_state_dict."""
    names = {
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.0": "middle_block.0", "mid_block.resnets.1": "middle_block.2",
    }  # fmt: skip
    inner = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
    }  # fmt: skip
    for i in range(levels):
        for j in range(layers):
            names[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{(layers + 1) * i + j + 1}.0"
            names[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{(layers + 1) * i + j + 1}.1"
        for j in range(layers + 1):
            names[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{(layers + 1) * i + j}.0"
            names[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{(layers + 1) * i + j}.1"
        names[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{(layers + 1) * (i + 1)}.0.op"
        attends = any(k.startswith(f"up_blocks.{i}.attentions") for k in state)
        names[f"up_blocks.{i}.upsamplers.0"] = f"output_blocks.{(layers + 1) * (i + 1) - 1}.{2 if attends else 1}"

    def old(key):
        place = max((n for n in names if key.startswith(n + ".")), key=len)
        rest = key[len(place) + 1 :]
        if "resnets" in place:
            first, _, last = rest.partition(".")
            rest = f"{inner[first]}.{last}"
        return f"{names[place]}.{rest}"

    return {old(k): v for k, v in state.items()}


def vae_names(state, levels):
    """The same script's convert_vae_state_dict."""

    def old(key):
        for i in range(levels):
            for j in range(3):
                key = key.replace(f"encoder.down_blocks.{i}.resnets.{j}.", f"encoder.down.{i}.block.{j}.")
                key = key.replace(f"decoder.up_blocks.{i}.resnets.{j}.", f"decoder.up.{levels - 1 - i}.block.{j}.")
            key = key.replace(f"down_blocks.{i}.downsamplers.0.", f"down.{i}.downsample.")
            key = key.replace(f"up_blocks.{i}.upsamplers.0.", f"up.{levels - 1 - i}.upsample.")
        for new, name in {
            "mid_block.attentions.0.": "mid.attn_1.", "mid_block.resnets.0.": "mid.block_1.",
            "mid_block.resnets.1.": "mid.block_2.", "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out",
            "group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out.",
        }.items():  # fmt: skip
            key = key.replace(new, name)
        return key

    maps = (".q.weight", ".k.weight", ".v.weight", ".proj_out.weight")
    renamed = {old(k): v for k, v in state.items()}
    return {k: v[:, :, None, None] if ".attn_1." in k and k.endswith(maps) else v for k, v in renamed.items()}


def clip_text_names(state):
    names = {"text_model." + k.removeprefix("text_model."): v for k, v in state.items()}
    return {"cond_stage_model.transformer." + k: v for k, v in names.items()}


def open_clip_names(state):
    """The same script's convert_text_enc_state_dict_v20, and the last layer that the UNet does not see."""
    import torch

    inner = {
        "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }  # fmt: skip
    state = {k.removeprefix("text_model."): v for k, v in state.items()}
    old = {
        "positional_embedding": state.pop("embeddings.position_embedding.weight"),
        "token_embedding.weight": state.pop("embeddings.token_embedding.weight"),
        "ln_final.weight": state.pop("final_layer_norm.weight"), "ln_final.bias": state.pop("final_layer_norm.bias"),
        "text_projection": torch.zeros(64, 64), "logit_scale": torch.tensor(1.0),
    }  # fmt: skip
    layers = {}
    for key, value in state.items():
        if key.startswith("encoder.layers."):
            number, _, rest = key.removeprefix("encoder.layers.").partition(".")
            layers.setdefault(int(number), {})[rest] = value
    for number in range(len(layers) + 1):
        rest = layers[min(number, len(layers) - 1)]
        place = f"transformer.resblocks.{number}."
        for kind in ["weight", "bias"]:
            thirds = [rest[f"self_attn.{which}_proj.{kind}"] for which in "qkv"]
            old[f"{place}attn.in_proj_{kind}"] = torch.cat(thirds)
            old |= {f"{place}{name}.{kind}": rest[f"{new}.{kind}"] for new, name in inner.items()}
    return {"cond_stage_model.model." + k: v for k, v in old.items()}


if __name__ == "__main__":
    main()
