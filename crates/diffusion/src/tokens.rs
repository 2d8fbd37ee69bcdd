//! Emotion tokens: learned rows of the text encoder's embedding table. Textual inversion, Gal et al. 2022, sec. 4.2.
//!
//! Only the n rows of each emotion are parameters; the table stays frozen and whole. A placeholder `<awe>` stands for
//! its n vectors, as `<awe> <awe>_1 …` does in diffusers.
//!
//! Shapes: e emotions, n vectors, d features, b prompts, l tokens.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::networks::clip_text::TextEncoder;
use crate::text::tokenizer::Tokenizer;
use crate::weights::{self, Placement, Weights};

/// The learned vectors of a run of one emotion, as diffusers reads them.
pub const TOKENS_FILE: &str = "learned_embeds.safetensors";
/// The folder of such files, `<emotion>.safetensors`, for a run of several emotions: diffusers reads one token from a
/// file.
pub const TOKENS_FOLDER: &str = "learned_embeds";

/// How tokens are named, counted and initialised.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// The placeholder's pattern, with `{emotion}`: `<{emotion}>`.
    pub placeholder_token: String,
    /// The word whose embedding the vectors begin at, with `{emotion}`.
    pub initializer_token: String,
    /// n, at least 1.
    pub num_vectors: usize,
}

/// The learned vectors of a run's emotions.
#[derive(Debug)]
pub struct Tokens {
    emotions: Vec<String>,
    placeholders: Vec<String>,
    vectors: Vec<Tensor>, // (n, d) each, f32: one leaf for each emotion, so that one may move while the others stay
}

/// A tokenised prompt in which some positions are learned vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids, padded to the tokeniser's length; learned positions hold the end token's id.
    pub ids: Vec<i64>,
    /// Learned positions: (position, row of the (e·n, d) vectors, in the order of the emotions).
    pub slots: Vec<(usize, usize)>,
    /// Where the prompt ends: the position CLIP pools.
    pub eos: usize,
}

impl Tokens {
    /// Fresh tokens, each vector the mean of its initialiser's embeddings.
    ///
    /// The second value holds warnings: an initialiser of several tokens. Fails if n is 0, if a placeholder is
    /// already spelled by the vocabulary's special tokens, or an initialiser is empty.
    pub fn new(
        tokenizer: &Tokenizer, encoder: &TextEncoder, emotions: &[String], settings: &TokenSettings, device: Device,
    ) -> Result<(Self, Vec<String>)> {
        if settings.num_vectors == 0 {
            return Err(Error::invalid(
                "tokens.num_vectors",
                "must be at least 1; write `tokens: off` to train without",
            ));
        }
        let mut warnings = Vec::new();
        let mut rows = Vec::new();
        for emotion in emotions {
            let word = settings.initializer_token.replace("{emotion}", emotion);
            let ids = tokenizer.words(&word);
            if ids.is_empty() {
                return Err(Error::invalid(
                    "tokens.initializer_token",
                    format!("\"{word}\" has no tokens; name a word"),
                ));
            }
            if ids.len() > 1 {
                warnings.push(format!("initializer_token \"{word}\" is {} tokens; their mean is used", ids.len()));
            }
            let table = encoder.token_table();
            let index = Tensor::from_slice(&ids).to_device(table.device());
            let mean = table.index_select(0, &index).to_kind(Kind::Float).mean_dim(0, true, Kind::Float);
            rows.push(mean.repeat([settings.num_vectors as i64, 1]));
        }
        Ok((Self::from_vectors(emotions, &settings.placeholder_token, &rows, device)?, warnings))
    }

    fn from_vectors(emotions: &[String], placeholder: &str, vectors: &[Tensor], device: Device) -> Result<Self> {
        if !placeholder.contains("{emotion}") && emotions.len() > 1 {
            return Err(Error::invalid(
                "tokens.placeholder_token",
                format!("\"{placeholder}\" is the same for every emotion; write {{emotion}} in it"),
            ));
        }
        let placeholders = emotions.iter().map(|e| placeholder.replace("{emotion}", e)).collect();
        let leaf = |vectors: &Tensor| vectors.detach().to_device(device).copy().set_requires_grad(true);
        let vectors = vectors.iter().map(leaf).collect();
        Ok(Self { emotions: emotions.to_vec(), placeholders, vectors })
    }

    /// Reads what [`Tokens::save`] wrote into `folder`: a tensor of `size` (n, d), named by each emotion's
    /// placeholder. For several emotions, also one learned_embeds.safetensors with all of them, as earlier versions
    /// wrote it.
    pub fn load(folder: &Path, emotions: &[String], placeholder: &str, size: [i64; 2], device: Device) -> Result<Self> {
        let mut vectors = Vec::new();
        for emotion in emotions {
            let path = file_of(folder, emotion, emotions.len());
            let weights = Weights::from_file(&path, Placement::new(Device::Cpu, Kind::Float))?;
            vectors.push(weights.root().tensor(&placeholder.replace("{emotion}", emotion), &size)?);
        }
        Self::from_vectors(emotions, placeholder, &vectors, device)
    }

    /// Writes into `folder` what diffusers' `load_textual_inversion` reads: learned_embeds.safetensors for one
    /// emotion, learned_embeds/`<emotion>`.safetensors for each of several. What an earlier run left under the other
    /// name is removed.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let (one, several) = (folder.join(TOKENS_FILE), folder.join(TOKENS_FOLDER));
        let metadata = || Some(HashMap::from([("format".into(), "pt".into())]));
        if several.is_dir() {
            std::fs::remove_dir_all(&several).map_err(|e| Error::io(&several, e))?;
        }
        let named: Vec<(String, Tensor)> =
            self.placeholders.iter().cloned().zip(self.vectors.iter().map(Tensor::shallow_clone)).collect();
        if named.len() == 1 {
            return weights::write_file(&one, &named, metadata());
        }
        std::fs::create_dir_all(&several).map_err(|e| Error::io(&several, e))?;
        for (emotion, named) in self.emotions.iter().zip(named) {
            weights::write_file(&several.join(format!("{emotion}.safetensors")), &[named], metadata())?;
        }
        match std::fs::remove_file(&one) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&one, error)),
            _ => Ok(()),
        }
    }

    /// The emotions, in the order of the vectors.
    pub fn emotions(&self) -> &[String] {
        &self.emotions
    }

    /// What stands for `emotion` in a prompt.
    pub fn placeholder(&self, emotion: &str) -> Result<&str> {
        let index = self.emotions.iter().position(|e| e == emotion).ok_or_else(|| {
            Error::invalid(
                format!("emotion {emotion}"),
                format!("this run has tokens for {}", self.emotions.join(", ")),
            )
        })?;
        Ok(&self.placeholders[index])
    }

    /// The trainable tensors, (n, d) each, by emotion.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        self.emotions.iter().cloned().zip(self.vectors.iter().map(Tensor::shallow_clone)).collect()
    }

    /// Tokenises `text`, with n slots for each placeholder. Fails if the text is too long to keep them all.
    pub fn prompt(&self, tokenizer: &Tokenizer, text: &str) -> Result<Prompt> {
        let n = self.vectors.first().map_or(0, |vectors| vectors.size()[0] as usize);
        let mut ids = vec![tokenizer.bos()];
        let mut slots = Vec::new();
        let mut rest = text;
        while let Some((at, which)) = self.next_placeholder(rest) {
            ids.extend(tokenizer.words(&rest[..at]));
            for k in 0..n {
                slots.push((ids.len(), which * n + k));
                ids.push(tokenizer.eos());
            }
            rest = &rest[at + self.placeholders[which].len()..];
        }
        ids.extend(tokenizer.words(rest));
        Prompt::finish(tokenizer, text, ids, slots)
    }

    /// As [`Tokens::prompt`], but a text without any placeholder is an error: its vectors would silently go unused.
    pub fn prompt_with_placeholder(&self, tokenizer: &Tokenizer, key: &str, text: &str) -> Result<Prompt> {
        let prompt = self.prompt(tokenizer, text)?;
        if prompt.slots.is_empty() {
            return Err(Error::invalid(key, format!("prompt \"{text}\" holds no placeholder; write {{token}} in it")));
        }
        Ok(prompt)
    }

    fn next_placeholder(&self, text: &str) -> Option<(usize, usize)> {
        let found = self.placeholders.iter().enumerate().filter_map(|(k, p)| text.find(p.as_str()).map(|at| (at, k)));
        found.min_by_key(|&(at, k)| (at, std::cmp::Reverse(self.placeholders[k].len())))
    }

    /// Token embeddings of `prompts` (b, l, d) in the encoder's kind, differentiable in the learned vectors.
    pub fn embed(&self, encoder: &TextEncoder, prompts: &[Prompt]) -> Tensor {
        embed(encoder, prompts, Some(self))
    }
}

impl Prompt {
    /// A prompt without learned vectors.
    pub fn plain(tokenizer: &Tokenizer, text: &str) -> Self {
        let ids = tokenizer.encode(text);
        let eos = ids.iter().position(|&id| id == tokenizer.eos()).unwrap_or(ids.len() - 1);
        Self { ids, slots: Vec::new(), eos }
    }

    fn finish(tokenizer: &Tokenizer, text: &str, mut ids: Vec<i64>, slots: Vec<(usize, usize)>) -> Result<Self> {
        let length = tokenizer.max_length();
        if slots.iter().any(|&(position, _)| position + 1 >= length) {
            return Err(Error::invalid(
                "prompt",
                format!(
                    "\"{text}\" is longer than {length} tokens, so that learned vectors would be cut off; shorten it"
                ),
            ));
        }
        ids.truncate(length - 1);
        let eos = ids.len();
        ids.push(tokenizer.eos());
        ids.resize(length, tokenizer.pad());
        Ok(Self { ids, slots, eos })
    }
}

/// Token embeddings of `prompts`, (b, l, d), learned positions taken from `tokens`.
pub fn embed(encoder: &TextEncoder, prompts: &[Prompt], tokens: Option<&Tokens>) -> Tensor {
    let ids: Vec<i64> = prompts.iter().flat_map(|p| p.ids.iter().copied()).collect();
    let device = encoder.token_table().device();
    let ids = Tensor::from_slice(&ids).view([prompts.len() as i64, -1]).to_device(device);
    let frozen = encoder.embed_tokens(&ids).detach();
    let slots: Vec<(i64, i64, i64)> = prompts
        .iter()
        .enumerate()
        .flat_map(|(b, p)| p.slots.iter().map(move |&(l, row)| (b as i64, l as i64, row as i64)))
        .collect();
    let (Some(tokens), false) = (tokens, slots.is_empty()) else { return frozen };
    let column = |pick: fn(&(i64, i64, i64)) -> i64| {
        Tensor::from_slice(&slots.iter().map(pick).collect::<Vec<_>>()).to_device(device)
    };
    let learned = Tensor::cat(&tokens.vectors, 0).index_select(0, &column(|s| s.2)).to_kind(frozen.kind());
    frozen.index_put(&[Some(column(|s| s.0)), Some(column(|s| s.1))], &learned, false)
}

/// The positions of the end tokens, (b): what CLIP pools.
pub fn eos_positions(prompts: &[Prompt], device: Device) -> Tensor {
    Tensor::from_slice(&prompts.iter().map(|p| p.eos as i64).collect::<Vec<_>>()).to_device(device)
}

/// Where [`Tokens::load`] looks for the vectors of `emotions` in a run's folder, each file once.
pub fn files(folder: &Path, emotions: &[String]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = emotions.iter().map(|e| file_of(folder, e, emotions.len())).collect();
    files.dedup();
    files
}

/// The file with the vectors of `emotion`, one of `count`, in `folder`; the usual path if there is none.
fn file_of(folder: &Path, emotion: &str, count: usize) -> PathBuf {
    let own = folder.join(TOKENS_FOLDER).join(format!("{emotion}.safetensors"));
    let shared = folder.join(TOKENS_FILE);
    let (usual, other) = if count == 1 { (shared, own) } else { (own, shared) };
    if !usual.is_file() && other.is_file() {
        return other;
    }
    usual
}
