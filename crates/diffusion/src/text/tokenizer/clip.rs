//! OpenAI CLIP's own vocabulary, built in for models that bring none (assets/clip_tokenizer, MIT).

use std::path::Path;

use super::{add_tokens, broken, clip_bpe, merges, vocabulary, Settings, Tokenizer};
use crate::error::Result;
use crate::json;
use crate::text::cleaning::Cleaning;

const VOCABULARY: &[u8] = include_bytes!("../../../../../assets/clip_tokenizer/vocab.json");
const MERGES: &str = include_str!("../../../../../assets/clip_tokenizer/merges.txt");

/// The tokenizer over this vocabulary, with `pad` as padding token.
pub(super) fn load(pad: &str) -> Result<Tokenizer> {
    let path = Path::new("(the built-in CLIP tokenizer)");
    let settings = Settings::usual(pad);
    let words = vocabulary(path, &json::parse(path, VOCABULARY)?)?;
    let merges = merges(path, MERGES, &words)?;
    let mut inner = clip_bpe(words, merges, &settings).map_err(|e| broken(path, e))?;
    add_tokens(path, &mut inner, &settings)?;
    Tokenizer::of(path, inner, &settings, Cleaning::default())
}
