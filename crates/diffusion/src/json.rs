//! JSON as Python writes it: with NaN, Infinity and −Infinity, and with a byte-order mark if an editor has added one.
//!
//! Python's `json` writes and reads the three words, and diffusers' configurations hold them (`lambda_min_clipped:
//! -Infinity`); RFC 8259 has no such numbers.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// Larger files are no configuration, vocabulary or index.
const MAX_BYTES: u64 = 256 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A JSON file as a value; errors name the file. NaN, Infinity and −Infinity become strings of that spelling, so that
/// a key which must be a number still refuses them.
pub fn read(path: &Path) -> Result<Value> {
    parse(path, &bytes(path)?)
}

/// The same from bytes that were read from `path`.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Value> {
    from_slice(bytes).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}

/// A text file's bytes without a byte-order mark; a file too large to be a configuration is refused.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let io = |e| Error::io(path, e);
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("has more than {} MB; no configuration or vocabulary is so large", MAX_BYTES >> 20);
        return Err(Error::invalid(path.display().to_string(), message));
    }
    match bytes.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => Ok(rest.to_vec()),
        None => Ok(bytes),
    }
}

fn from_slice(bytes: &[u8]) -> serde_json::Result<Value> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    // Python's words are looked for only if the text is not valid by RFC 8259.
    serde_json::from_slice(bytes).or_else(|strict| match quote_words(bytes) {
        Some(quoted) => serde_json::from_slice(&quoted),
        None => Err(strict),
    })
}

/// The text with Python's three words in quotes; none where it holds none outside of strings.
fn quote_words(bytes: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut quoted = Vec::with_capacity(bytes.len() + 16);
    let (mut at, mut found) = (0, false);
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest[0] == b'"' {
            let length = string_length(rest);
            quoted.extend_from_slice(&rest[..length]);
            at += length;
        } else if let Some(word) = WORDS.into_iter().find(|word| rest.starts_with(word)) {
            quoted.push(b'"');
            quoted.extend_from_slice(word);
            quoted.push(b'"');
            at += word.len();
            found = true;
        } else {
            quoted.push(rest[0]);
            at += 1;
        }
    }
    found.then_some(quoted)
}

/// How many bytes the string at the start of `text` takes, with its quotes; all of them if it does not end.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `python3 -c 'import json; print(json.dumps({"a": float("-inf"), "b": [float("nan"), 1.0], "c": "NaN, \"Infinity"}))'`
    const OF_PYTHON: &str = r#"{"a": -Infinity, "b": [NaN, 1.0], "c": "NaN, \"Infinity"}"#;

    #[test]
    fn pythons_words_are_read_and_strings_stay_as_they_are() {
        let value = from_slice(OF_PYTHON.as_bytes()).expect("Python wrote it");
        assert_eq!(value, serde_json::json!({"a": "-Infinity", "b": ["NaN", 1.0], "c": "NaN, \"Infinity"}));
    }

    #[test]
    fn a_byte_order_mark_is_passed_by() {
        let marked = [BYTE_ORDER_MARK, OF_PYTHON.as_bytes()].concat();
        assert_eq!(from_slice(&marked).expect("read"), from_slice(OF_PYTHON.as_bytes()).expect("read"));
        assert_eq!(from_slice(b"\xef\xbb\xbf{}").expect("read"), serde_json::json!({}));
    }

    #[test]
    fn what_is_no_json_says_where() {
        for text in ["{\n\"a\": Infinit}", "{\"a\": nan}", "", "{\"a\": \"NaN", "{\"a\": --Infinity}"] {
            assert!(from_slice(text.as_bytes()).is_err(), "{text}");
        }
        let error = parse(Path::new("c/config.json"), b"{\n  \"a\": oops\n}").expect_err("no JSON").to_string();
        assert!(error.contains("c/config.json") && error.contains("line 2"), "{error}");
    }
}
