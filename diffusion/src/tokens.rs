//! Emotion tokens: learned rows of the text encoder's embedding table. Textual inversion, Gal et al. 2022, sec. 4.2.
//!
//! Only the n rows of each emotion are parameters; the table stays frozen and whole. A placeholder `<awe>` stands for
//! its n vectors, as `<awe> <awe>_1 …` does in diffusers.
//!
//! Shapes: e emotions, n vectors, d features, b prompts, l tokens.

use std::collections::HashMap;
use std::path::Path;

use tch::{Device, IndexOp, Kind, Tensor};

use crate::error::{Error, Result};
use crate::networks::clip_text::TextEncoder;
use crate::text::tokenizer::Tokenizer;
use crate::weights::{self, Weights};

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
    vectors: Tensor, // (e, n, d), f32
}

/// A tokenised prompt in which some positions are learned vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids, padded to the tokeniser's length; learned positions hold the end token's id.
    pub ids: Vec<i64>,
    /// Learned positions: (position, row of the (e·n, d) vectors).
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
        let vectors = Tensor::stack(&rows, 0).to_device(device);
        Ok((Self::from_vectors(emotions, &settings.placeholder_token, &vectors)?, warnings))
    }

    fn from_vectors(emotions: &[String], placeholder: &str, vectors: &Tensor) -> Result<Self> {
        if !placeholder.contains("{emotion}") && emotions.len() > 1 {
            return Err(Error::invalid(
                "tokens.placeholder_token",
                format!("\"{placeholder}\" is the same for every emotion; write {{emotion}} in it"),
            ));
        }
        let placeholders = emotions.iter().map(|e| placeholder.replace("{emotion}", e)).collect();
        let vectors = vectors.detach().copy().set_requires_grad(true);
        Ok(Self { emotions: emotions.to_vec(), placeholders, vectors })
    }

    /// Reads a learned_embeds.safetensors: one (n, d) tensor named by each emotion's placeholder.
    pub fn load(path: &Path, emotions: &[String], placeholder: &str, device: Device) -> Result<Self> {
        let weights = Weights::from_file(path, Device::Cpu, Kind::Float)?;
        let rows = emotions
            .iter()
            .map(|e| weights.root().tensor_of_any_shape(&placeholder.replace("{emotion}", e)))
            .collect::<Result<Vec<_>>>()?;
        for (row, emotion) in rows.iter().zip(emotions) {
            if row.dim() != 2 || row.size() != rows[0].size() {
                return Err(Error::Shape {
                    path: path.to_path_buf(),
                    name: placeholder.replace("{emotion}", emotion),
                    expected: rows[0].size(),
                    found: row.size(),
                });
            }
        }
        Self::from_vectors(emotions, placeholder, &Tensor::stack(&rows, 0).to_device(device))
    }

    /// Writes learned_embeds.safetensors, which diffusers' `load_textual_inversion` reads.
    pub fn save(&self, path: &Path) -> Result<()> {
        let rows: Vec<(String, Tensor)> =
            self.placeholders.iter().enumerate().map(|(k, p)| (p.clone(), self.vectors.i(k as i64))).collect();
        weights::write_file(path, &rows, Some(HashMap::from([("format".into(), "pt".into())])))
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

    /// The trainable vectors, (e, n, d).
    pub fn vectors(&self) -> &Tensor {
        &self.vectors
    }

    /// The trainable tensor by name.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        vec![("tokens".to_string(), self.vectors.shallow_clone())]
    }

    /// Tokenises `text`, each placeholder replaced by its n slots. Fails if the text is too long to keep them.
    pub fn prompt(&self, tokenizer: &Tokenizer, text: &str) -> Result<Prompt> {
        let n = self.vectors.size()[1] as usize;
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
        embed(encoder, prompts, Some(&self.vectors))
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

/// Token embeddings of `prompts`, (b, l, d), learned positions taken from `vectors` (e, n, d).
pub fn embed(encoder: &TextEncoder, prompts: &[Prompt], vectors: Option<&Tensor>) -> Tensor {
    let ids: Vec<i64> = prompts.iter().flat_map(|p| p.ids.iter().copied()).collect();
    let device = encoder.token_table().device();
    let ids = Tensor::from_slice(&ids).view([prompts.len() as i64, -1]).to_device(device);
    let frozen = encoder.embed_tokens(&ids).detach();
    let slots: Vec<(i64, i64, i64)> = prompts
        .iter()
        .enumerate()
        .flat_map(|(b, p)| p.slots.iter().map(move |&(l, row)| (b as i64, l as i64, row as i64)))
        .collect();
    let (Some(vectors), false) = (vectors, slots.is_empty()) else { return frozen };
    let column = |pick: fn(&(i64, i64, i64)) -> i64| {
        Tensor::from_slice(&slots.iter().map(pick).collect::<Vec<_>>()).to_device(device)
    };
    let learned = vectors.flatten(0, 1).index_select(0, &column(|s| s.2)).to_kind(frozen.kind());
    frozen.index_put(&[Some(column(|s| s.0)), Some(column(|s| s.1))], &learned, false)
}

/// The positions of the end tokens, (b): what CLIP pools.
pub fn eos_positions(prompts: &[Prompt], device: Device) -> Tensor {
    Tensor::from_slice(&prompts.iter().map(|p| p.eos as i64).collect::<Vec<_>>()).to_device(device)
}
