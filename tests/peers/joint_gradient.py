"""Gradients of the whole joint loss: the trainer's against PyTorch, diffusers and transformers, by the same formulas.

    python tests/peers/joint_gradient.py assets/pocket     (from the repository's root, after `make build`)

A run of four steps on one source and one emotion image saves every step, with adam_beta1 = 0, so that the optimiser's
first moment is the step's gradient. Here the fourth step is computed once more from the third checkpoint: DDIM's P_t of
the edited branch, guided away from the source's, decoded, seen by CLIP, the directional loss in each of its forms, the
contrast over emotions, the reconstruction, both denoising terms and the alignment term. The last variant reads the same
network as one that predicts v, on a schedule of zero terminal SNR (Lin et al. 2024). Every trained tensor's gradient must agree within 1e-3 of its norm, every logged
loss within 1e-4. The random draws come from examples/draws.rs. Pinned versions: requirements.txt.
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
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging

ROOT = pathlib.Path(__file__).resolve().parents[2]
EMOTIONS = ["amusement", "sadness"]  # those that have images, in the order of their names
TARGET, NUM_TIMESTEPS, STEP, BATCH = "sadness", 8, 3, 2
TEMPLATES = {"sadness": [("a person", "a person showing sadness"), ("a person's face", "a sad person's face")],
             "amusement": [("a person", "a person showing amusement"), ("a person's face", "an amused person's face")]}
PROMPTS = ["a person showing {token}", "a person full of {token}", "a face that shows {token}"]
WEIGHTS = {"direction": 1.0, "reconstruction": 0.6, "denoising": 0.7, "alignment": 0.2, "contrast": 0.4, "delta_denoising": 0.3}
GUIDANCE = {"target": 2.5, "log": 1.0, "linear": 3.0}
VARIANTS = [("target", "both", "asymmetric"), ("log", "decoder", "asymmetric"), ("linear", "both", "anchored"), ("target", "decoder", "anchored")]
VELOCITY = ("log", "both", "asymmetric")

RECIPE = """
model: {{base: {pocket}, clip: {pocket}/clip}}
emotions: [sadness]
data:
  emotion_images: {{shards: {folder}/data}}
  sources: {{shards: {folder}/data, trajectories: {folder}/inversions, inversion_batch_size: 1}}
tokens: {{num_vectors: 2}}
delta: {{kind: conv}}
edit: {{num_inversion_steps: 8, t_edit: 100, trajectory: edited, condition: {condition}, process: {process}, guidance_scale: {guidance}}}
prompts: {{source: "", target: "{prompts[0]}", denoising: ["{prompts[1]}", "{prompts[2]}"]}}
direction:
  kind: mixed
  mix: 0.3
  templates:
    - {{source: "a person", target: "a person showing {{emotion}}"}}
    - {{source: "a person's face", target: "{{adjective}} person's face"}}
loss: {{directional: {form}, beta: 0.8, clip: 1.0, reconstruction: 0.6, denoising: 0.7, alignment: 0.2, contrast: 0.4, contrast_temperature: 0.2,
       delta_denoising: 0.3, min_snr_gamma: 5}}
train:
  train_batch_size: 2
  max_train_steps: 4
  learning_rate: {{tokens: 5.0e-3, delta: 1.0e-3}}
  lr_scheduler: constant
  optimizer: {{adam_beta1: 0.0}}
  max_grad_norm: 1.0e+9
  num_threads: 1
  device: cpu
checkpoint: {{checkpointing_steps: 1, checkpoints_total_limit: 9}}
output_dir: {folder}/run
"""


def main():
    pocket = pathlib.Path(sys.argv[1]).resolve()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    subprocess.run(["cargo", "build", "-q", "--release", "--workspace", "--locked", "--examples"], cwd=ROOT, check=True)
    models = Models(pocket)
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(pathlib.Path(folder), pocket)
        for form, condition, process in VARIANTS:
            trained = train(pathlib.Path(folder) / f"{form}-{condition}", pocket, data, form, condition, process)
            compare(trained, models, form, condition, process, data)
        base = velocity_pipeline(pathlib.Path(folder) / "velocity-base", pocket)
        trained = train(pathlib.Path(folder) / "velocity", base, data, *VELOCITY)
        compare(trained, Models(base), *VELOCITY, data)


def velocity_pipeline(folder, pocket):
    """The pocket family with a scheduler that says its UNet predicts v and that nothing is left at the last timestep."""
    folder.mkdir()
    for part in ("unet", "vae", "text_encoder", "tokenizer", "clip", "data"):
        (folder / part).symlink_to(pocket / part)
    scheduler = DDIMScheduler.from_pretrained(pocket / "scheduler", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert scheduler.alphas_cumprod[-1] == 0
    scheduler.save_pretrained(folder / "scheduler")
    return folder


class Models:
    """The pocket family as diffusers and transformers load it."""

    def __init__(self, pocket):
        self.unet = UNet2DConditionModel.from_pretrained(pocket / "unet").float().requires_grad_(False).eval()
        self.vae = AutoencoderKL.from_pretrained(pocket / "vae").float().requires_grad_(False).eval()
        self.text = CLIPTextModel.from_pretrained(pocket / "text_encoder").float().requires_grad_(False).eval()
        self.clip = CLIPModel.from_pretrained(pocket / "clip").float().requires_grad_(False).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(pocket / "tokenizer")
        scheduler = DDIMScheduler.from_pretrained(pocket / "scheduler")
        self.alphas = scheduler.alphas_cumprod.double()
        self.velocity = scheduler.config.prediction_type == "v_prediction"
        assert self.tokenizer.add_tokens(["<sadness>", "<sadness>_1"]) == 2
        preprocess = json.loads((pocket / "clip/preprocessor_config.json").read_text())
        self.mean, self.std = (torch.tensor(preprocess[key]).view(1, 3, 1, 1) for key in ("image_mean", "image_std"))

    def embeddings_of(self, model, texts, vectors):
        """Hidden states of a CLIP text model with `vectors` in the placeholders' places; the states and the ids."""
        texts = [text.replace("{token}", "<sadness> <sadness>_1") for text in texts]
        length = self.text.config.max_position_embeddings
        ids = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        first = len(self.tokenizer) - 2

        def fill(module, inputs, output):
            for k, vector in enumerate(vectors):
                output = torch.where((ids == first + k)[..., None], vector, output)
            return output

        hook = model.embeddings.token_embedding.register_forward_hook(fill)
        hidden = model(input_ids=ids.where(ids < first, 0)).last_hidden_state
        hook.remove()
        return hidden, ids

    def contexts(self, texts, vectors):
        return self.embeddings_of(self.text, texts, vectors)[0]

    def clip_texts(self, texts, vectors):
        hidden, ids = self.embeddings_of(self.clip.text_model, texts, vectors)
        end = (ids == self.tokenizer.eos_token_id).int().argmax(-1)
        return self.clip.text_projection(hidden[torch.arange(len(ids)), end])

    def clip_images(self, images):
        pixels = ((images + 1) / 2 - self.mean) / self.std
        return self.clip.visual_projection(self.clip.vision_model(pixel_values=pixels).pooler_output)

    def decode(self, latents):
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample

    def clean(self, z, output, alpha):
        """P_t of the network's output."""
        if self.velocity:
            return alpha.sqrt() * z - (1 - alpha).sqrt() * output
        return (z - (1 - alpha).sqrt() * output) / alpha.sqrt()

    def output(self, z, t, encoder_context, decoder_context=None, delta=None):
        """The UNet; its up path under another context and behind a shifted bottleneck, where they are given."""
        seen, hooks = {}, []
        if delta is not None:
            hooks.append(self.unet.time_embedding.register_forward_hook(lambda m, i, out: seen.update(temb=out)))
            hooks.append(self.unet.mid_block.register_forward_hook(lambda m, i, h: h + shift(delta, h, seen["temb"])))
        if decoder_context is not None:
            swap = lambda m, args, kwargs: (args, {**kwargs, **({"encoder_hidden_states": decoder_context} if "encoder_hidden_states" in kwargs else {})})  # noqa: E731
            hooks += [block.register_forward_pre_hook(swap, with_kwargs=True) for block in self.unet.up_blocks]
        out = self.unet(z, t, encoder_context).sample
        for hook in hooks:
            hook.remove()
        return out


def shift(delta, h, temb):
    """f(h, t) of Asyrp: 1×1 conv, time projection, GroupNorm, SiLU, 1×1 conv."""
    x = F.conv2d(h, delta["conv1.weight"], delta["conv1.bias"])
    x = x + F.linear(F.silu(temb), delta["temb_proj.weight"], delta["temb_proj.bias"])[..., None, None]
    x = F.group_norm(x, 32, delta["norm2.weight"], delta["norm2.bias"], eps=1e-6)
    return F.conv2d(F.silu(x), delta["conv2.weight"], delta["conv2.bias"])


def make_data(folder, pocket):
    """One sad person, one amused, as shards."""
    table = pq.read_table(pocket / "data/train.parquet").to_pylist()
    for emotion in EMOTIONS:
        row = next(r for r in table if r["emotion"] == emotion)
        place = folder / "photos/train" / emotion
        place.mkdir(parents=True)
        Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB").save(place / "face.png")
    recipe = folder / "data.yaml"
    recipe.write_text(f"source: {{kind: folder, path: {folder}/photos}}\nresolution: 96\nvae: {pocket}/vae\n"
                      f"clip: {pocket}/clip\noutput: {folder}/data\n")
    run("dataloader", "shard", "--config", recipe)
    return folder / "data"


def train(folder, pocket, data, form, condition, process):
    folder.mkdir()
    (folder / "data").symlink_to(data)
    text = RECIPE.format(pocket=pocket, folder=folder, form=form, condition=condition, process=process, guidance=GUIDANCE[form], prompts=PROMPTS)
    (folder / "recipe.yaml").write_text(text)
    run("trainer", "--config", folder / "recipe.yaml", "--offline")
    return folder


def run(program, *arguments):
    done = subprocess.run([ROOT / "target/release" / program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def draw(kind, stream, position, argument):
    flag = "--bound" if kind == "below" else "--shape"
    command = [ROOT / "target/release/examples/draws", kind, "--seed", "0", "--stream", f"{stream}/{TARGET}",
               "--position", str(position), flag, argument]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(folder, models, form, condition, process, data):
    before, after = folder / f"run/checkpoint-{STEP}", folder / f"run/checkpoint-{STEP + 1}"
    tokens = load_file(before / "tokens.safetensors")[TARGET].requires_grad_()
    delta = {name.split(".", 1)[1]: value.requires_grad_() for name, value in load_file(before / "delta.safetensors").items()}
    rows = {row["emotion"]: row for row in pq.read_table(next(data.glob("train-*.parquet"))).to_pylist()}
    terms = losses(folder, models, tokens, delta, rows, form, condition, process, load_file(before / "trajectory.safetensors")["z"])
    sum(WEIGHTS[name] * value for name, value in terms.items()).backward()
    logged = json.loads((folder / "run/metrics.jsonl").read_text().splitlines()[STEP])
    for name, value in terms.items():
        ours = logged[f"loss/{name}"]
        assert abs(ours - value.item()) <= 1e-4 * max(1.0, abs(ours)), f"{form}: {name} is {ours}, PyTorch says {value.item()}"
    moments, worst = load_file(after / "optimizer.safetensors"), 0.0
    expected = {f"tokens.{TARGET}": tokens.grad} | {f"delta.{TARGET}.{name}": value.grad for name, value in delta.items()}
    assert {f"{name}.exp_avg" for name in expected} <= set(moments), set(moments)
    for name, gradient in expected.items():
        ours = moments[f"{name}.exp_avg"]
        assert gradient.norm() > 0, f"{name} has no gradient"
        error = ((ours - gradient).norm() / gradient.norm()).item()
        assert error <= 1e-3, f"{form}, {condition}, {process}: the gradient of {name} is off by {error:.1e} of its norm"
        worst = max(worst, error)
    print(f"{form}, condition {condition}, {process}: {len(expected)} gradients within {worst:.0e}, "
          + ", ".join(f"{name} {value.item():.4f}" for name, value in terms.items()))


def losses(folder, models, tokens, delta, rows, form, condition, process, z):
    source, image = rows["amusement"], rows[TARGET]
    timesteps = [k * 999 // (NUM_TIMESTEPS - 1) for k in range(NUM_TIMESTEPS)]
    index = NUM_TIMESTEPS - 1 - STEP
    t, alpha = timesteps[index], models.alphas[timesteps[index]].float()
    latent, output = inverted(folder / "inversions", source["image_id"], models, timesteps, index)
    recorded = {"latents": latent.expand(BATCH, -1, -1, -1), "noises": output.expand(BATCH, -1, -1, -1)}
    clean = lambda z, output: models.clean(z, output, alpha)  # noqa: E731
    own_context = models.contexts([""], []).expand(BATCH, -1, -1)
    contexts = models.contexts(PROMPTS, tokens)
    edited_context = contexts[:1].expand(BATCH, -1, -1)

    decoder_only = condition == "decoder"
    edited = models.output(z, t, own_context if decoder_only else edited_context, edited_context if decoder_only else None, delta)
    with torch.no_grad():
        own = models.output(z, t, own_context)
    reference = clean(z, own) if process == "asymmetric" else clean(recorded["latents"], recorded["noises"])
    moved = clean(z, own) + GUIDANCE[form] * (clean(z, edited) - clean(z, own))

    unit = lambda x: F.normalize(x, dim=-1)  # noqa: E731
    embedding = {emotion: unit(torch.tensor(np.array(row["clip_embedding"], dtype=np.float32))) for emotion, row in rows.items()}
    with torch.no_grad():
        directions = torch.stack([direction_of(models, emotion, embedding) for emotion in EMOTIONS])
        direction = directions[EMOTIONS.index(TARGET)]
        seen = unit(models.clip_images(models.decode(reference))) if form == "target" else embedding["amusement"]
    shown = unit(models.clip_images(models.decode(moved)))
    if form == "target":
        directional = 1 - (shown * unit(seen + 0.8 * direction)).sum(-1).mean()
    else:
        directional = 1 - (unit(shown - seen) * direction).sum(-1).mean()
    if form == "log":
        directional = -torch.log((2 - directional) / 2)

    change, target = unit(shown - seen), torch.tensor([EMOTIONS.index(TARGET)] * BATCH)
    contrast = F.cross_entropy(change @ directions.T / 0.2, target)

    texts = models.clip_texts(PROMPTS[:1], tokens)
    classes = unit(torch.stack([embedding[emotion] for emotion in EMOTIONS]))
    alignment = F.cross_entropy(unit(texts) @ classes.T / 0.07, torch.tensor([EMOTIONS.index(TARGET)]))
    return {
        "direction": directional,
        "reconstruction": (moved - reference).abs().mean(),
        "denoising": denoising(models, image, lambda prompt: dict(encoder_context=contexts[1 + prompt : 2 + prompt])),
        "alignment": alignment,
        "contrast": contrast,
        "delta_denoising": denoising(models, image, lambda _: dict(encoder_context=own_context[:1], delta=delta)),
    }


def inverted(folder, image_id, models, timesteps, index):
    """z at a timestep's index, by DDIM's steps up through the recorded outputs, and the output there."""
    half = lambda data: torch.tensor(np.frombuffer(data, dtype=np.float16).astype(np.float32))  # noqa: E731
    tables = [pq.read_table(path) for path in folder.rglob("*.parquet")]
    rows = [row for table in tables if "outputs" in table.column_names for row in table.to_pylist()]
    row = next(row for row in rows if row["image_id"] == image_id)
    z = half(row["latent"]).view(4, 24, 24) * models.vae.config.scaling_factor
    outputs = half(row["outputs"]).view(len(timesteps), 4, 24, 24)
    for k in range(index):
        alpha, above = (models.alphas[timesteps[k + i]].float() for i in (0, 1))
        clean = models.clean(z, outputs[k], alpha)
        noise = alpha.sqrt() * outputs[k] + (1 - alpha).sqrt() * z if models.velocity else outputs[k]
        z = above.sqrt() * clean + (1 - above).sqrt() * noise
    return z, outputs[index]


def direction_of(models, emotion, embedding):
    """Words and the image prototype, mixed, of any emotion that has images; the sources are the amused."""
    unit = lambda x: F.normalize(x, dim=-1)  # noqa: E731
    texts = [unit(models.clip_texts([pair[k] for pair in TEMPLATES[emotion]], [])) for k in (0, 1)]
    words = unit((texts[1] - texts[0]).mean(0))
    return unit(0.7 * words + 0.3 * unit(embedding[emotion] - embedding["amusement"]))


def denoising(models, image, condition):
    """The emotion image's posterior, sampled, noised and denoised, with the min-SNR weight at γ = 5. `condition` is what
    the network is given, for the number of the prompt that was drawn."""
    errors = []
    for position in range(STEP * BATCH, (STEP + 1) * BATCH):
        flip = "flip" if draw("below", "flip", position, "2") else "latent"
        half = lambda name: torch.tensor(np.array(image[f"{flip}_{name}"], dtype=np.float32)).view(4, 24, 24)  # noqa: B023, E731
        normal = lambda stream: torch.tensor(draw("normal", stream, position, "4,24,24")).view(4, 24, 24)  # noqa: B023, E731
        latent = (half("mean") + half("std") * normal("posterior")) * models.vae.config.scaling_factor
        noise, t = normal("noise"), draw("below", "timestep", position, "1000")
        prompt = draw("below", "prompt", position, "2")
        alpha = models.alphas[t].float()
        z = alpha.sqrt() * latent + (1 - alpha).sqrt() * noise
        predicted = models.output(z[None], t, **condition(prompt))
        snr = alpha / (1 - alpha)
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * latent if models.velocity else noise
        weight = snr.clamp(max=5) / (snr + 1 if models.velocity else snr)
        errors.append((predicted[0] - target).square().mean() * weight)
    return torch.stack(errors).mean()


if __name__ == "__main__":
    main()
