//! CLIP's byte-level BPE (Radford et al. 2021; Sennrich et al. 2016) through the `tokenizers` crate, read from the
//! tokenizer folder of a diffusers pipeline or a transformers CLIP.

mod clip;
mod whole;

use std::path::Path;

use serde_json::Value;
use tokenizers::models::bpe::{Merges, Vocab, BPE};
use tokenizers::normalizers::{Lowercase, Replace, Sequence as Normalizers, NFC};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::error::{Error, Result};
use crate::json;
use crate::text::cleaning::Cleaning;

/// How CLIP cuts text into words before the BPE.
const WORDS: &str =
    concat!(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|", r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+");
const DEFAULT_MAX_LENGTH: usize = 77;
/// CLIP's special tokens by role, in transformers' order.
const SPECIAL: [(&str, &str); 4] = [
    ("bos_token", "<|startoftext|>"),
    ("eos_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
    ("pad_token", "<|endoftext|>"),
];

/// Text to token ids and the ids that frame them.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    cleaning: Cleaning,
    max_length: usize,
    bos: i64,
    eos: i64,
    pad: i64,
}

impl Tokenizer {
    /// Reads a tokenizer's folder.
    pub(crate) fn from_folder(folder: &Path) -> Result<Self> {
        let settings = Settings::read(folder)?;
        let whole = folder.join("tokenizer.json");
        let inner = if folder.join("vocab.json").is_file() || !whole.is_file() {
            from_vocabulary(folder, &settings)?
        } else {
            whole::read(&whole, folder, &settings)?
        };
        Self::of(folder, inner, &settings, Cleaning::default())
    }

    fn of(folder: &Path, inner: tokenizers::Tokenizer, settings: &Settings, cleaning: Cleaning) -> Result<Self> {
        let id = |role: &str| settings.id(folder, &inner, role);
        let (bos, eos, pad) = (id("bos_token")?, id("eos_token")?, id("pad_token")?);
        let unknown = id("unk_token")?; // without it, text outside the vocabulary could not be encoded
        if !inner.get_vocab(false).into_values().any(|word| i64::from(word) == unknown) {
            let message = format!("unk_token (id {unknown}) is no word of the vocabulary");
            return Err(Error::invalid(folder.display().to_string(), message));
        }
        Ok(Self { max_length: settings.max_length, inner, cleaning, bos, eos, pad })
    }

    /// OpenAI CLIP's tokenizer, which every Stable Diffusion 1.x and 2.x uses; `pad` is the padding token.
    pub(crate) fn clip(pad: &str) -> Result<Self> {
        clip::load(pad)
    }

    /// The same tokenizer with another cleaning of prompts; the default is [`Cleaning::Original`].
    pub fn with_cleaning(mut self, cleaning: Cleaning) -> Self {
        self.cleaning = cleaning;
        self
    }

    /// `max_length` ids: bos, the text's ids as far as they fit, eos, padding.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        let mut ids = vec![self.bos];
        ids.extend(self.words(text).into_iter().take(self.max_length - 2));
        ids.push(self.eos);
        ids.resize(self.max_length, self.pad);
        ids
    }

    /// The text's own ids, without bos and eos, not truncated.
    pub fn words(&self, text: &str) -> Vec<i64> {
        let cleaned = self.cleaning.apply(text);
        let encoding = self.inner.encode_fast(cleaned, false).expect("invariant: a byte-level BPE encodes any text");
        encoding.get_ids().iter().map(|&id| i64::from(id)).collect()
    }

    /// The length of every encoded prompt.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The id that begins a prompt.
    pub fn bos(&self) -> i64 {
        self.bos
    }

    /// The id that ends a prompt; CLIP pools there.
    pub fn eos(&self) -> i64 {
        self.eos
    }

    /// The id that pads a prompt.
    pub fn pad(&self) -> i64 {
        self.pad
    }

    /// How many ids there are, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The highest id, added tokens included.
    pub fn max_id(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0)
    }
}

/// What the JSON files beside the vocabulary say.
struct Settings {
    /// Role and token, in transformers' order: if roles share a token, the last one decides its properties.
    special: Vec<(&'static str, AddedToken)>,
    /// Tokens beyond the vocabulary, with the ids they must get.
    added: Vec<(u32, AddedToken)>,
    max_length: usize,
}

impl Settings {
    fn read(folder: &Path) -> Result<Self> {
        let config = optional_json(&folder.join("tokenizer_config.json"))?;
        let map = optional_json(&folder.join("special_tokens_map.json"))?;
        // transformers lets special_tokens_map.json win only if the configuration is older than added_tokens_decoder.
        let old = config.get("added_tokens_decoder").is_none();
        let mut special = Vec::new();
        for (role, usual) in SPECIAL {
            let written = map.get(role).filter(|_| old).or_else(|| config.get(role)).filter(|v| !v.is_null());
            let token = match written {
                Some(value) => added_token(&folder.join("tokenizer_config.json"), role, value)?,
                None => AddedToken::from(usual, true),
            };
            special.push((role, token));
        }
        let added = added_tokens(folder, &config)?;
        Ok(Self { special, added, max_length: max_length(folder, &config)? })
    }

    /// CLIP's own, with `pad` as padding token.
    fn usual(pad: &str) -> Self {
        let special =
            SPECIAL.map(|(role, usual)| (role, AddedToken::from(if role == "pad_token" { pad } else { usual }, true)));
        Self { special: special.to_vec(), added: Vec::new(), max_length: DEFAULT_MAX_LENGTH }
    }

    fn content(&self, role: &str) -> &str {
        let found = self.special.iter().find(|(name, _)| *name == role);
        &found.expect("invariant: every role is filled").1.content
    }

    fn id(&self, folder: &Path, inner: &tokenizers::Tokenizer, role: &str) -> Result<i64> {
        let content = self.content(role);
        inner.token_to_id(content).map(i64::from).ok_or_else(|| Error::Unsupported {
            path: folder.to_path_buf(),
            key: role.into(),
            message: format!("{content:?} is not in the vocabulary; vocab.json and tokenizer_config.json do not match"),
        })
    }
}

fn from_vocabulary(folder: &Path, settings: &Settings) -> Result<tokenizers::Tokenizer> {
    let vocabulary = read_vocabulary(&folder.join("vocab.json"))?;
    let merges = read_merges(&folder.join("merges.txt"), &vocabulary)?;
    let mut inner = clip_bpe(vocabulary, merges, settings).map_err(|e| broken(&folder.join("merges.txt"), e))?;
    add_tokens(folder, &mut inner, settings)?;
    Ok(inner)
}

/// CLIP's own word splitting, and BPE over a vocabulary.
fn clip_bpe(vocabulary: Vocab, merges: Merges, settings: &Settings) -> tokenizers::Result<tokenizers::Tokenizer> {
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .unk_token(settings.content("unk_token").to_string())
        .end_of_word_suffix("</w>".into())
        .build()?;
    let mut inner = tokenizers::Tokenizer::new(model);
    let spaces = Replace::new(tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".into()), " ");
    let spaces = spaces.expect("invariant: the pattern is constant");
    inner.with_normalizer(Some(Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()])));
    let words = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Removed, true);
    let words = words.expect("invariant: the pattern is constant");
    inner.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), ByteLevel::new(false, true, true).into()])));
    Ok(inner)
}

fn add_tokens(folder: &Path, inner: &mut tokenizers::Tokenizer, settings: &Settings) -> Result<()> {
    for (id, token) in &settings.added {
        inner.add_tokens(std::slice::from_ref(token));
        if inner.token_to_id(&token.content) != Some(*id) {
            return Err(Error::Unsupported {
                path: folder.to_path_buf(),
                key: "added tokens".into(),
                message: format!("{:?} should have id {id}, but the vocabulary gives it another", token.content),
            });
        }
    }
    for (at, (_, token)) in settings.special.iter().enumerate() {
        // The crate ignores a second token of the same text; transformers lets it win.
        if settings.special[at + 1..].iter().all(|(_, later)| later.content != token.content) {
            inner.add_special_tokens(std::slice::from_ref(token));
        }
    }
    Ok(())
}

fn read_vocabulary(path: &Path) -> Result<Vocab> {
    vocabulary(path, &json::read(path)?)
}

/// Tokens and ids of a JSON object.
fn vocabulary(path: &Path, json: &Value) -> Result<Vocab> {
    let Some(entries) = json.as_object() else {
        return Err(Error::invalid(path.display().to_string(), "expected an object of tokens and their ids"));
    };
    entries
        .iter()
        .map(|(token, id)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok((token.clone(), id)),
            None => Err(Error::Unsupported {
                path: path.to_path_buf(),
                key: token.clone(),
                message: format!("the id {id} is not a whole number; the file is damaged, copy it again"),
            }),
        })
        .collect()
}

fn read_merges(path: &Path, vocabulary: &Vocab) -> Result<Merges> {
    let text = String::from_utf8(json::bytes(path)?)
        .map_err(|e| Error::invalid(path.display().to_string(), format!("is not UTF-8 ({e}); copy it again")))?;
    merges(path, &text, vocabulary)
}

/// The merges of a merges.txt's text.
fn merges(path: &Path, text: &str, vocabulary: &Vocab) -> Result<Merges> {
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("#version") || line.trim().is_empty() {
            continue;
        }
        let at = || format!("{}: line {}", path.display(), number + 1);
        let Some((left, right)) = line.split_once(' ').filter(|(_, right)| !right.contains(' ')) else {
            return Err(Error::invalid(at(), format!("expected two symbols and one space, found {line:?}")));
        };
        check_merge(at, left, right, vocabulary)?;
        merges.push((left.to_string(), right.to_string()));
    }
    Ok(merges)
}

/// The symbols of a merge, and their concatenation, must be tokens.
fn check_merge(at: impl Fn() -> String, left: &str, right: &str, vocabulary: &Vocab) -> Result<()> {
    let merged = format!("{left}{right}");
    let missing = [left, right, &merged].into_iter().find(|symbol| !vocabulary.contains_key(*symbol));
    match missing {
        Some(missing) => Err(Error::invalid(
            at(),
            format!("{missing:?} is not in the vocabulary; merges and vocabulary do not belong together"),
        )),
        None => Ok(()),
    }
}

/// A special token as transformers writes it: its text, or an object with its properties.
fn added_token(path: &Path, key: &str, value: &Value) -> Result<AddedToken> {
    let text = value.as_str().or_else(|| value.get("content").and_then(Value::as_str));
    let Some(text) = text else {
        return Err(Error::Unsupported {
            path: path.to_path_buf(),
            key: key.into(),
            message: format!("expected the token's text or an object with content, found {value}"),
        });
    };
    let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    let special = !value.is_object() || value.get("special").and_then(Value::as_bool).unwrap_or(true);
    Ok(AddedToken::from(text, special)
        .normalized(flag("normalized"))
        .lstrip(flag("lstrip"))
        .rstrip(flag("rstrip"))
        .single_word(flag("single_word")))
}

fn added_tokens(folder: &Path, config: &Value) -> Result<Vec<(u32, AddedToken)>> {
    let mut added = Vec::new();
    if let Some(decoder) = config.get("added_tokens_decoder").and_then(Value::as_object) {
        for (id, value) in decoder {
            let path = folder.join("tokenizer_config.json");
            let number = id.parse().map_err(|_| Error::Unsupported {
                path: path.clone(),
                key: "added_tokens_decoder".into(),
                message: format!("{id:?} is not an id"),
            })?;
            added.push((number, added_token(&path, id, value)?));
        }
    } else if let Some(ids) = optional_json(&folder.join("added_tokens.json"))?.as_object() {
        for (text, id) in ids {
            let number = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| Error::Unsupported {
                path: folder.join("added_tokens.json"),
                key: text.clone(),
                message: format!("{id} is not an id"),
            })?;
            added.push((number, AddedToken::from(text.clone(), false).normalized(false)));
        }
    }
    added.sort_by_key(|(id, _)| *id);
    Ok(added)
}

fn max_length(folder: &Path, config: &Value) -> Result<usize> {
    let Some(value) = config.get("model_max_length").filter(|v| !v.is_null()) else {
        return Ok(DEFAULT_MAX_LENGTH);
    };
    // transformers writes 1e30, or Python's Infinity, for "not set".
    match value.as_f64().or_else(|| (value == "Infinity").then_some(f64::INFINITY)) {
        Some(length) if length > 1e6 => Ok(DEFAULT_MAX_LENGTH),
        Some(length) if length >= 2.0 => Ok(length as usize),
        _ => Err(Error::Unsupported {
            path: folder.join("tokenizer_config.json"),
            key: "model_max_length".into(),
            message: format!("{value} is no length of at least 2"),
        }),
    }
}

fn optional_json(path: &Path) -> Result<Value> {
    if path.is_file() {
        json::read(path)
    } else {
        Ok(Value::Null)
    }
}

fn broken(path: &Path, source: tokenizers::Error) -> Error {
    Error::invalid(path.display().to_string(), format!("not a tokenizer this program can read ({source})"))
}
