//! The frozen networks, loaded on one device.
//!
//! Shapes: b batch, p CLIP's projection, (h, w) pixels.

use std::path::{Path, PathBuf};

use diffusion::images::ClipPreprocess;
use diffusion::json;
use diffusion::networks::clip::Clip;
use diffusion::networks::clip_text::read_token_table;
use diffusion::networks::decoder::LatentDecoder;
use diffusion::networks::tiny_vae::AutoencoderTiny;
use diffusion::networks::vae::AutoencoderKl;
use diffusion::pipeline::{check_tokenizer, part, vae_kind, Part, Pipeline, TRANSFORMERS_STEM};
use diffusion::text::tokenizer::Tokenizer;
use diffusion::tokens::{embed, eos_positions, Prompt, Tokens};
use diffusion::weights::{self, Contents, MemoryFormat, Placement};
use hub::Hub;
use tch::{Device, Kind, Tensor};

use crate::config::resolved::Resolved;
use crate::failure::{input, refuse};

/// Where each model of a recipe lies.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The pipeline.
    pub base: PathBuf,
    /// The CLIP of the losses, if it is needed.
    pub clip: Option<PathBuf>,
    /// The decoder of P_t, if it is not the pipeline's own.
    pub preview_decoder: Option<PathBuf>,
    /// The CLIP whose embeddings the validation's classifier reads, if it reads any.
    pub classifier_clip: Option<PathBuf>,
}

impl Folders {
    /// Finds every model on disk, in the cache or on the hub.
    pub fn find(recipe: &Resolved, hub: &Hub) -> anyhow::Result<Self> {
        let model = &recipe.config.model;
        let find = |name: &String| input(hub.model(name));
        Ok(Self {
            base: find(&model.base)?,
            clip: model.clip.as_ref().filter(|_| recipe.needs_clip()).map(find).transpose()?,
            preview_decoder: model.preview_decoder.as_ref().map(find).transpose()?,
            classifier_clip: classifier_clip(recipe)?.as_ref().map(find).transpose()?,
        })
    }
}

/// The name of that CLIP: the recipe's, otherwise the one that the classifier names.
fn classifier_clip(recipe: &Resolved) -> anyhow::Result<Option<String>> {
    let validation = &recipe.config.validation;
    let Some(folder) = &validation.classifier else { return Ok(None) };
    let named = input(judge::classifier::clip_of(folder))?;
    Ok(named.map(|named| validation.classifier_clip.clone().unwrap_or(named)))
}

/// The CLIP of the losses.
pub struct LossClip {
    clip: Clip,
    tokenizer: Tokenizer,
    preprocess: ClipPreprocess,
    kind: Kind,
    device: Device,
    /// blake3 of its weights, by which shards name their embeddings.
    pub hash: String,
    /// Whether it shares the UNet's text encoder's token table, so that learned vectors mean the same to both.
    pub shares_token_table: bool,
}

impl LossClip {
    fn load(folder: &Path, base: &Path, placement: Placement) -> anyhow::Result<Self> {
        let clip = Clip::load_with(folder, placement)?;
        let tokenizer = Tokenizer::load(folder)?;
        check_tokenizer(folder, &tokenizer, &clip.config().text)?;
        let (own, other) = (read_token_table(folder)?, read_token_table(&part(base, "text_encoder")?)?);
        let shares_token_table = own.size() == other.size() && own.equal(&other);
        Ok(Self {
            tokenizer,
            preprocess: ClipPreprocess::read(folder)?,
            hash: weights::hash(folder, TRANSFORMERS_STEM)?,
            clip,
            kind: placement.kind,
            device: placement.device,
            shares_token_table,
        })
    }

    /// Numbers of an embedding, p.
    pub fn width(&self) -> usize {
        self.clip.projection_dim() as usize
    }

    /// Embeddings of images (b, 3, h, w) in [−1, 1], differentiable, (b, p).
    pub fn embed_images(&self, images: &Tensor) -> Tensor {
        let pixels = self.preprocess.from_tensor(images).to_kind(self.kind);
        self.clip.image_embeds(&pixels).to_kind(Kind::Float)
    }

    /// Embeddings of texts, differentiable in the vectors of `tokens`, which fill the placeholders if given, (b, p).
    pub fn embed_texts(&self, texts: &[&str], tokens: Option<&Tokens>) -> anyhow::Result<Tensor> {
        let prompt = |text: &&str| match tokens {
            Some(tokens) => tokens.prompt(&self.tokenizer, text),
            None => Ok(Prompt::plain(&self.tokenizer, text)),
        };
        let prompts = texts.iter().map(prompt).collect::<diffusion::Result<Vec<_>>>()?;
        let embeddings = embed(self.clip.text(), &prompts, tokens);
        let places = eos_positions(&prompts, self.device);
        Ok(self.clip.text_embeds_from(&embeddings, &places).to_kind(Kind::Float))
    }
}

/// Every frozen network of a step.
pub struct Models {
    /// UNet, VAE, text encoder, tokenizer, schedule.
    pub pipeline: Pipeline,
    /// For the directional and the alignment loss.
    pub clip: Option<LossClip>,
    /// blake3 of what decodes P_t.
    pub preview_hash: String,
    preview: Option<Box<dyn LatentDecoder>>,
    preview_scale: f64,
    /// The element type the networks run in.
    pub kind: Kind,
    /// Their device.
    pub device: Device,
    /// Whether they hold numbers or were only checked.
    pub contents: Contents,
}

impl Models {
    /// Loads the networks of `recipe`; every error counts as the input's.
    pub fn load(recipe: &Resolved, folders: &Folders, device: Device) -> anyhow::Result<Self> {
        input(Self::load_from(recipe, folders, device, Contents::Values))
    }

    /// The same from the headers of the weights alone; it refuses whatever loading would refuse.
    pub fn check(recipe: &Resolved, folders: &Folders) -> anyhow::Result<Self> {
        input(Self::load_from(recipe, folders, Device::Cpu, Contents::Shapes))
    }

    fn load_from(recipe: &Resolved, folders: &Folders, device: Device, contents: Contents) -> anyhow::Result<Self> {
        let kind = recipe.config.train.mixed_precision.kind();
        let memory_format =
            if recipe.config.train.channels_last { MemoryFormat::ChannelsLast } else { MemoryFormat::Contiguous };
        let placement = Placement { device, kind, memory_format, contents };
        let pipeline = Pipeline::load_with(&folders.base, placement)?;
        let clip = folders.clip.as_ref().map(|f| LossClip::load(f, &folders.base, placement)).transpose()?;
        if recipe.needs_alignment() && clip.as_ref().is_some_and(|c| !c.shares_token_table) {
            return Err(refuse(
                "loss.alignment: this CLIP's token table is not the text encoder's, so that the tokens mean nothing \
                 to it; set loss.alignment to 0",
            ));
        }
        let preview = folders.preview_decoder.as_ref().map(|f| preview_decoder(f, placement)).transpose()?;
        let latents = pipeline.vae.latent_channels();
        if let Some(found) = preview.as_ref().map(|p| p.latent_channels()).filter(|&found| found != latents) {
            return Err(refuse(format!(
                "model.preview_decoder: decodes latents of {found} channels, the pipeline's have {latents}; it is of \
                 another family of models"
            )));
        }
        let preview_hash = match &folders.preview_decoder {
            Some(folder) => Part::Vae.hash(folder)?,
            None => pipeline.hashes.vae.clone(),
        };
        let preview_scale = recipe.config.model.preview_scale;
        Ok(Self { pipeline, clip, preview_hash, preview, preview_scale, kind, device, contents })
    }

    /// What decodes P_t for CLIP.
    pub fn preview(&self) -> &dyn LatentDecoder {
        self.preview.as_deref().unwrap_or(&self.pipeline.vae)
    }

    /// Decodes scaled latents with the preview decoder at the preview's scale, differentiable; images (b, 3, h, w).
    pub fn decode_preview(&self, latents: &Tensor) -> Tensor {
        let side = |dimension: i64| preview_side(latents.size()[dimension as usize], self.preview_scale);
        let pooled = (self.preview_scale < 1.0).then(|| latents.adaptive_avg_pool2d([side(2), side(3)]));
        let latents = pooled.as_ref().unwrap_or(latents);
        let decode = || self.preview().decode_scaled(&latents.to_kind(self.preview().kind())).to_kind(Kind::Float);
        match self.preview().kind() {
            // Autocast would compute a VAE that is kept in f32 in f16, which overflows.
            Kind::Float => collective::without_autocast(self.device, decode),
            _ => decode(),
        }
    }

    /// CLIP embeddings of scaled latents, differentiable; not normalised, (b, p).
    pub fn embed_preview(&self, latents: &Tensor) -> Tensor {
        self.loss_clip().embed_images(&self.decode_preview(latents))
    }

    /// The CLIP of the losses; a checked recipe that needs it has it.
    pub fn loss_clip(&self) -> &LossClip {
        self.clip.as_ref().expect("resolved: CLIP is loaded where it is needed")
    }
}

/// A side of the latents that the preview decodes.
pub fn preview_side(side: i64, scale: f64) -> i64 {
    ((side as f64 * scale).round() as i64).max(1)
}

fn preview_decoder(folder: &Path, placement: Placement) -> anyhow::Result<Box<dyn LatentDecoder>> {
    if folder.is_file() {
        return Ok(Box::new(AutoencoderKl::load_with(folder, placement)?));
    }
    let config = json::read(&folder.join("config.json"))?;
    match config.get("_class_name").and_then(|c| c.as_str()) {
        Some("AutoencoderTiny") => Ok(Box::new(AutoencoderTiny::load_with(folder, placement)?)),
        Some("AutoencoderKL") => {
            Ok(Box::new(AutoencoderKl::load_with(folder, Placement { kind: vae_kind(placement.kind), ..placement })?))
        }
        other => Err(refuse(format!(
            "{}: _class_name {other:?} is no decoder; AutoencoderTiny and AutoencoderKL are",
            folder.join("config.json").display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Autocast would compute the VAE in f16, which overflows at Stable Diffusion's size.
    #[test]
    fn the_vae_decodes_in_f32_under_autocast_to_f16() -> anyhow::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let sets = ["train.mixed_precision=fp16", "model.preview_decoder=null"].map(String::from);
        let recipe = Resolved::new(recipe::load(&root.join("configs/pocket/sadness.yaml"), &sets)?)?;
        let base = root.join("assets/pocket");
        let folders = Folders { clip: Some(base.join("clip")), base, preview_decoder: None, classifier_clip: None };
        let models = Models::load(&recipe, &folders, Device::Cpu)?;
        let latents = diffusion::noise::normal(0, "latents", 0, &[1, 4, 8, 8]);
        let (decode, _no_grad) = (|| models.decode_preview(&latents), tch::no_grad_guard());
        assert_eq!(collective::autocast(Device::Cpu, Kind::Half, decode), decode());
        Ok(())
    }
}
