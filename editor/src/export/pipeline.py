"""Edits a photo towards an emotion: @EMOTIONS@.

A custom pipeline for diffusers, written by `editor export`:

    from diffusers import DiffusionPipeline
    pipe = DiffusionPipeline.from_pretrained(BASE, custom_pipeline="FOLDER/pipeline.py", trust_remote_code=True)
    edited = pipe(Image.open("photo.png"), "@EMOTION@", strength=1.0).images[0]

BASE is the model that SETTINGS["base"] names, or the same weights elsewhere; with others the result means nothing. What the
run learned lies in edit.safetensors beside this file. diffusers runs a copy of the file, so where the folder has been moved, say so:
pipe.load_edit("new/folder").

The edit, as in the paper "Diffusion Models already have a Semantic Latent Space" (Kwon et al. 2023) and its direct inversion
(Ju et al. 2023): the photo is inverted by DDIM under the source prompt; on the way down, from t_edit on, h-space (the output of
the UNet's mid block) is shifted by a learned delta, and the prompt holds learned tokens. Only the predicted clean latent takes
the edited noise. What the VAE lost of the photo is added back.

It takes 8-bit RGB and gives it back. Colour profiles, 16 bits and EXIF are the editor's own. Where t_boost is above 0, the noise
of quality boosting comes from `generator`, and differs from the editor's.
"""
import os
from dataclasses import dataclass
from typing import Dict, List, Optional, Union

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, ImagePipelineOutput
from PIL import Image, ImageOps
from safetensors.torch import load_file

# How the run edits, and the folder that this file was written into.
SETTINGS = @SETTINGS@
FOLDER = @FOLDER_LITERAL@
TENSORS = "edit.safetensors"

GROUPS, EPS = 32, 1e-6  # of the delta's normalisation
CELLS, TOLERANCE = 16, 0.4  # of the gated detail


@dataclass
class Source:
    """A photo, inverted: any number of edits share it."""

    photo: torch.Tensor  # (1, 3, H, W) in [-1, 1], at its own size
    images: torch.Tensor  # (1, 3, h, w), at the size that is edited
    round_trip: torch.Tensor  # (1, 3, h, w), through the VAE
    latents: List[torch.Tensor]  # one for each timestep, (1, c, h/f, w/f)
    outputs: List[torch.Tensor]  # the UNet's, under the source prompt


@dataclass
class Target:
    """What an edit goes towards."""

    source_context: torch.Tensor  # (1, l, d)
    edited_context: torch.Tensor
    shifts: list  # of (delta's tensors, token (1, d) or None, weight)


class EmotionEditPipeline(DiffusionPipeline):
    """Edits a photo towards the emotions that a run was trained for."""

    model_cpu_offload_seq = "text_encoder->unet->vae"

    def __init__(self, vae, text_encoder, tokenizer, unet, scheduler):
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self._tensors = None

    def load_edit(self, folder):
        """Reads what the run learned from `folder`, where this file was exported to."""
        self._tensors = load_file(os.path.join(folder, TENSORS))
        return self

    @torch.no_grad()
    def __call__(
        self,
        image: Union[Image.Image, Source],
        emotion: Union[str, Dict[str, float], None] = None,
        strength: float = 1.0,
        resolution: Optional[int] = None,
        generator: Optional[torch.Generator] = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ):
        """The photo with an emotion, at its own size.

        `image` is a PIL image, or what `invert` made of it. `emotion` is a name, or weights by name; a run of one emotion
        needs none. `strength` 0 is the photo, 1 as trained. The edit is computed at about `resolution` squared pixels.
        """
        source = image if isinstance(image, Source) else self.invert(image, resolution)
        latents = self._reverse(source, self._target(self._weights(emotion)), strength, generator)
        decoded = self._decode(latents)
        if not torch.isfinite(decoded).all():
            raise ValueError("the edit is not finite; the weights, the scheduler or the strength are beyond this dtype")
        edited = self._with_detail(source, decoded).clamp(-1, 1)
        images = edited if output_type == "pt" else [_to_pil(edited)]
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    @torch.no_grad()
    def invert(self, image: Image.Image, resolution: Optional[int] = None) -> Source:
        """DDIM's inversion of a photo under the source prompt, at guidance 1."""
        photo = ImageOps.exif_transpose(image).convert("RGB")
        device = self._execution_device
        small = photo.resize(self._working_size(photo.size, resolution or SETTINGS["resolution"]), Image.LANCZOS)
        images = _to_tensor(small).to(device)
        vae = self.vae
        z = vae.encode(images.to(vae.dtype)).latent_dist.mean.float() * vae.config.scaling_factor
        context = self._context(*self._ids(SETTINGS["prompts"]["source"]))
        timesteps = self._timesteps()
        round_trip = self._decode(z)
        latents, outputs = [], []
        for k, t in enumerate(self.progress_bar(timesteps)):
            output = self._unet(z, t, context)
            latents.append(z)
            outputs.append(output)
            if k + 1 < len(timesteps):
                above = self._alpha_bar(timesteps[k + 1])
                z = above.sqrt() * self._clean(output, z, t) + (1 - above).sqrt() * self._noise(output, z, t)
        return Source(_to_tensor(photo).to(device), images, round_trip, latents, outputs)

    def _reverse(self, source, target, strength, generator):
        """The edited latent, as a difference from the recorded source at every step."""
        edit, timesteps, edited = SETTINGS["edit"], self._timesteps(), None
        guidance, guided = edit["guidance_scale"], edit["guidance_scale"] != 1
        mask = self._mask(source, target) if edit["mask"] and strength != 0 else 1
        for k in self.progress_bar(range(len(timesteps) - 1, 0, -1)):
            t, active = timesteps[k], timesteps[k] >= edit["t_edit"] and strength != 0
            if edited is None and not active:
                continue
            z = source.latents[k] if edited is None else edited
            recorded, below = source.outputs[k], self._alpha_bar(timesteps[k - 1])
            source_clean = self._clean(recorded, source.latents[k], t)
            source_noise = self._noise(recorded, source.latents[k], t)
            needs_own = not active or guided or edit["process"] == "asymmetric"
            own = self._unet(z, t, target.source_context) if needs_own else None
            noise = source_noise if own is None else self._noise(own, z, t)
            output = self._edited_unet(z, t, target, strength) if active else own
            clean = self._clean(output, z, t)
            if active and guided:
                own_clean = self._clean(own, z, t)
                clean = own_clean + guidance * (clean - own_clean)
            change = below.sqrt() * (clean - source_clean)
            if not active and t < edit["t_boost"]:
                here, eta = self._alpha_bar(t), min(abs(strength), 1.0)
                sigma = ((1 - here / below) * (1 - below) / (1 - here)).clamp_min(0).sqrt() * eta
                direction = (1 - below - sigma**2).clamp_min(0).sqrt() * noise
                fresh = torch.randn(z.shape, generator=generator, device=getattr(generator, "device", "cpu")).to(z)
                change = change + direction - (1 - below).sqrt() * source_noise + sigma * fresh
            elif edit["process"] == "asymmetric":
                change = change + (1 - below).sqrt() * (noise - source_noise)
            edited = source.latents[k - 1] + mask * change
        return source.latents[0] if edited is None else edited

    def _mask(self, source, target):
        """DiffEdit's mask: 1 where the edit and the source differ much at the source's own latents, 0 where little."""
        timesteps, total = self._timesteps(), 0
        inside = [k for k in range(1, len(timesteps)) if 250 <= timesteps[k] <= 700] or [len(timesteps) // 2]
        if len(inside) > 5:
            inside = [inside[i * (len(inside) - 1) // 4] for i in range(5)]
        for k in inside:
            z, t = source.latents[k], timesteps[k]
            difference = self._clean(self._edited_unet(z, t, target, 1.0), z, t) - self._clean(source.outputs[k], z, t)
            difference = difference.abs().mean(1, keepdim=True)
            total = total + difference / difference.mean((1, 2, 3), keepdim=True).clamp_min(1e-12)
        reach = max(min(total.shape[2:]) // 24, 1)
        smooth = F.avg_pool2d(total, 2 * reach + 1, 1, reach, count_include_pad=False)
        relative = smooth / smooth.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        x = (relative / SETTINGS["edit"]["mask"]["threshold"] - 0.5).clamp(0, 1)
        return x**2 * (3 - 2 * x)

    def _edited_unet(self, z, t, target, strength):
        """The UNet's output with h-space shifted; the decoder, or all of it, sees the edited prompt."""
        context = target.source_context + strength * (target.edited_context - target.source_context)

        def shift(module, args, kwargs, h):
            temb = args[1] if len(args) > 1 else kwargs["temb"]
            return h + sum(_delta(p, h, temb, token) * (weight * strength) for p, token, weight in target.shifts)

        def edited_prompt(module, args, kwargs):
            return args, {**kwargs, "encoder_hidden_states": context.to(kwargs["encoder_hidden_states"])}

        hooks = [self.unet.mid_block.register_forward_hook(shift, with_kwargs=True)] if target.shifts else []
        if SETTINGS["edit"]["condition"] == "decoder":
            attending = [b for b in self.unet.up_blocks if getattr(b, "has_cross_attention", False)]
            hooks += [b.register_forward_pre_hook(edited_prompt, with_kwargs=True) for b in attending]
            context_in = target.source_context
        else:
            context_in = context
        try:
            return self._unet(z, t, context_in)
        finally:
            for hook in hooks:
                hook.remove()

    def _unet(self, z, t, context):
        dtype = self.unet.dtype
        return self.unet(z.to(dtype), torch.tensor([t], device=z.device), context.to(dtype)).sample.float()

    def _decode(self, latents):
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        return self.vae.decode(latents).sample.float().clamp(-1, 1)

    def _weights(self, emotion):
        known = SETTINGS["emotions"]
        if emotion is None and len(known) > 1:
            raise ValueError(f"name an emotion: {', '.join(known)}")
        weights = {known[0]: 1.0} if emotion is None else {emotion: 1.0} if isinstance(emotion, str) else dict(emotion)
        unknown = [name for name in weights if name not in known]
        if unknown or not weights:
            raise ValueError(f"{unknown}: this run was trained for {', '.join(known)}")
        return weights

    def _target(self, weights):
        """Several emotions at once: their deltas and contexts over the root of their number."""
        if self._tensors is None:
            self.load_edit(FOLDER)
        device, root = self._execution_device, len(weights) ** 0.5
        source = self._context(*self._ids(SETTINGS["prompts"]["source"]))
        edited, shifts = source.clone(), []
        for emotion, weight in weights.items():
            ids, rows = self._ids(self._prompt(emotion), emotion)
            context = self._context(ids, rows)
            edited = edited + (context - source) * (weight / root)
            if SETTINGS["delta"]:
                name = "shared" if SETTINGS["delta"]["condition_on_token"] else emotion
                prefix = f"delta.{name}."
                tensors = {k[len(prefix):]: v.to(device) for k, v in self._tensors.items() if k.startswith(prefix)}
                # The first end token behind the learned vectors, whose places hold one too.
                eos = ids.index(self.tokenizer.eos_token_id, max(rows, default=0) + 1)
                token = context[:, eos] if SETTINGS["delta"]["condition_on_token"] else None
                shifts.append((tensors, token, weight / root))
        return Target(source, edited, shifts)

    def _prompt(self, emotion):
        """Without tokens the source prompt: the edit is the delta's alone."""
        if not SETTINGS["tokens"]:
            return SETTINGS["prompts"]["source"]
        placeholder = SETTINGS["tokens"]["placeholder_token"]
        text = SETTINGS["prompts"]["target"].replace("{token}", placeholder.replace("{emotion}", emotion))
        return text.replace("{emotion}", emotion)

    def _ids(self, text, emotion=None):
        """Padded ids, and the learned vectors by position."""
        tokenizer, rows = self.tokenizer, {}
        words = lambda part: tokenizer(part, add_special_tokens=False).input_ids
        ids, rest = [tokenizer.bos_token_id], text
        if emotion is not None and SETTINGS["tokens"]:
            by_place = {SETTINGS["tokens"]["placeholder_token"].replace("{emotion}", e): e for e in SETTINGS["emotions"]}
            while found := [(rest.index(p), -len(p), p) for p in by_place if p in rest]:
                at, _, placeholder = min(found)
                ids += words(rest[:at])
                for vector in self._tensors[f"tokens.{by_place[placeholder]}"]:
                    rows[len(ids)] = vector
                    ids.append(tokenizer.eos_token_id)
                rest = rest[at + len(placeholder) :]
        ids += words(rest)
        length = tokenizer.model_max_length
        if any(position + 1 >= length for position in rows):
            raise ValueError(f"{text!r} is longer than {length} tokens, so that learned vectors would be cut off")
        ids = ids[: length - 1] + [tokenizer.eos_token_id]
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        return ids + [pad] * (length - len(ids)), rows

    def _context(self, ids, rows):
        """The text encoder's last hidden state, (1, l, d), with learned vectors in place of some embeddings."""

        def learned(module, args, embeddings):
            embeddings = embeddings.clone()
            for position, vector in rows.items():
                embeddings[0, position] = vector.to(embeddings)
            return embeddings

        hook = self.text_encoder.get_input_embeddings().register_forward_hook(learned)
        try:
            return self.text_encoder(torch.tensor([ids], device=self._execution_device))[0]
        finally:
            hook.remove()

    def _working_size(self, size, resolution):
        """About resolution squared pixels with the photo's proportions, sides that the networks can halve."""
        vae, unet = len(self.vae.config.block_out_channels) - 1, len(self.unet.config.block_out_channels) - 1
        multiple, scale = 2 ** (vae + unet), resolution / (size[0] * size[1]) ** 0.5
        return tuple(max(int(side * scale / multiple + 0.5), 1) * multiple for side in size)

    def _timesteps(self):
        """Ascending: from 0 to the last timestep at which the output says something of the photo."""
        alphas, last = self.scheduler.alphas_cumprod, len(self.scheduler.alphas_cumprod) - 1
        if self._prediction() == "epsilon":
            last = int((alphas > 0).nonzero().max())
        intervals = SETTINGS["edit"]["num_inversion_steps"] - 1
        return [k * last // intervals for k in range(intervals + 1)]

    def _prediction(self):
        return self.scheduler.config.get("prediction_type", "epsilon")

    def _alpha_bar(self, t):
        return self.scheduler.alphas_cumprod[t].float().to(self._execution_device)

    def _clean(self, output, z, t):
        alpha_bar = self._alpha_bar(t)
        if self._prediction() == "epsilon":
            return (z - (1 - alpha_bar).sqrt() * output) / alpha_bar.sqrt()
        if self._prediction() == "v_prediction":
            return alpha_bar.sqrt() * z - (1 - alpha_bar).sqrt() * output
        return output

    def _noise(self, output, z, t):
        alpha_bar = self._alpha_bar(t)
        if self._prediction() == "epsilon":
            return output
        if self._prediction() == "v_prediction":
            return alpha_bar.sqrt() * output + (1 - alpha_bar).sqrt() * z
        return (z - alpha_bar.sqrt() * output) / (1 - alpha_bar).sqrt()

    def _with_detail(self, source, decoded):
        """Brings the change to the photo's size, so that the photo keeps the detail that its working size lacks."""
        detail, size = SETTINGS["edit"]["detail"], source.photo.shape[-2:]
        resize = lambda x: F.interpolate(x, size=size, mode="bicubic", align_corners=False)
        change = decoded - source.round_trip
        if detail == "none":
            return resize(decoded)
        if detail == "residual":
            return source.photo + resize(change)
        reach = max(min(change.shape[-2:]) // CELLS // 2, 1)
        mean = F.avg_pool2d(change.abs().amax(1, keepdim=True), 2 * reach + 1, 1, reach, count_include_pad=False)
        closed = -torch.expm1(-((mean / TOLERANCE) ** 2))
        resized = resize(torch.cat([change, closed, source.round_trip], 1))
        change, closed, round_trip = resized.split([3, 1, 3], 1)
        return source.photo + change - closed.clamp(0, 1) * (source.photo - round_trip)


def _delta(tensors, h, temb, token):
    """f(h, t) of Asyrp: 1x1 conv plus the time, GroupNorm, the token by FiLM, SiLU, 1x1 conv."""
    p = tensors
    x = F.conv2d(h.float(), p["conv1.weight"], p["conv1.bias"])
    x = x + F.linear(F.silu(temb.float()), p["temb_proj.weight"], p["temb_proj.bias"])[:, :, None, None]
    x = F.group_norm(x, GROUPS, p["norm2.weight"], p["norm2.bias"], EPS)
    if token is not None:
        scale, offset = F.linear(token.float(), p["film.weight"], p["film.bias"])[:, :, None, None].chunk(2, 1)
        x = x * (1 + scale) + offset
    return F.conv2d(F.silu(x), p["conv2.weight"], p["conv2.bias"]).to(h.dtype)


def _to_tensor(photo):
    return torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def _to_pil(image):
    levels = ((image[0].float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).numpy())
