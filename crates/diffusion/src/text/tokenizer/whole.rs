//! tokenizer.json, the `tokenizers` library's own format; transformers 5 writes nothing else of a tokenizer.
//!
//! Its vocabulary, merges and added tokens are read. Words are split as CLIP does, and the file must agree with that.

use std::path::Path;

use serde_json::Value;
use tokenizers::models::bpe::{Merges, Vocab};

use super::{add_tokens, added_token, broken, check_merge, clip_bpe, vocabulary, Settings};
use crate::error::{Error, Result};
use crate::json;

/// Texts that a tokenizer with another normalisation or word splitting encodes differently.
const PROBES: [&str; 6] = [
    "A photo of  SADNESS, it's 2024's!",
    "naïve Ångström — Éclair\tcafe\u{301} x",
    "12345 don't we'll I'd they're you've I'm",
    "...!!! #hash @user (a)[b]{c} <x>_1",
    "日本語 Привет שלום \u{1f600}\u{1f468}\u{200d}\u{1f469}",
    "",
];

/// CLIP's tokenizer over what `path` holds; `folder` and `settings` say what lies beside it.
pub(super) fn read(path: &Path, folder: &Path, settings: &Settings) -> Result<tokenizers::Tokenizer> {
    let json = json::read(path)?;
    let model = &json["model"];
    if model["type"].as_str().is_some_and(|kind| kind != "BPE") {
        return Err(unsupported(path, "model.type", format!("is {}, CLIP's is \"BPE\"", model["type"])));
    }
    let words = vocabulary(path, &model["vocab"])?;
    let merges = merges(path, &model["merges"], &words)?;
    let mut inner = clip_bpe(words, merges, settings).map_err(|e| broken(path, e))?;
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        inner.add_tokens(&[added_token(path, "added_tokens", token)?]);
        check_id(path, &inner, token)?;
    }
    add_tokens(folder, &mut inner, settings)?;
    agree(path, json, &inner)?;
    Ok(inner)
}

/// Pairs of symbols; older files join them by a space.
fn merges(path: &Path, json: &Value, words: &Vocab) -> Result<Merges> {
    let at = |number: usize| move || format!("{}: model.merges[{number}]", path.display());
    let none = Vec::new();
    let pairs = json.as_array().unwrap_or(&none).iter().enumerate().map(|(number, pair)| {
        let pair = match (pair.as_str().and_then(|text| text.split_once(' ')), pair.as_array().map(Vec::as_slice)) {
            (Some((left, right)), _) => Some((left, right)),
            (None, Some([left, right])) => left.as_str().zip(right.as_str()),
            _ => None,
        };
        let (left, right) = pair.ok_or_else(|| Error::invalid(at(number)(), "expected a pair of symbols"))?;
        check_merge(at(number), left, right, words)?;
        Ok((left.to_string(), right.to_string()))
    });
    pairs.collect()
}

fn check_id(path: &Path, inner: &tokenizers::Tokenizer, token: &Value) -> Result<()> {
    let content = token["content"].as_str().unwrap_or_default();
    let found = inner.token_to_id(content).map(u64::from);
    if token["id"].as_u64().is_some_and(|id| found != Some(id)) {
        let message = format!("{content:?} should have id {}, but the vocabulary gives it another", token["id"]);
        return Err(unsupported(path, "added_tokens", message));
    }
    Ok(())
}

/// Fails unless the file's own tokenizer, without truncation and padding, encodes every probe as `inner` does.
fn agree(path: &Path, mut json: Value, inner: &tokenizers::Tokenizer) -> Result<()> {
    (json["truncation"], json["padding"]) = (Value::Null, Value::Null);
    let own: tokenizers::Tokenizer = serde_json::from_value(json).map_err(|e| broken(path, e.into()))?;
    let ids = |tokenizer: &tokenizers::Tokenizer, text: &str| {
        tokenizer.encode_fast(text, false).ok().map(|encoding| encoding.get_ids().to_vec())
    };
    match PROBES.into_iter().find(|probe| ids(&own, probe) != ids(inner, probe)) {
        None => Ok(()),
        Some(probe) => {
            let message = format!("cuts {probe:?} otherwise than CLIP; only CLIP's tokenizer is supported");
            Err(unsupported(path, "normalizer, pre_tokenizer, model", message))
        }
    }
}

fn unsupported(path: &Path, key: &str, message: String) -> Error {
    Error::Unsupported { path: path.to_path_buf(), key: key.into(), message }
}
