//! The tokenizer against OpenAI CLIP's SimpleTokenizer (tests/fixtures/tokenizer/clip_tokenizer_reference.json) and
//! transformers' CLIPTokenizer (transformers 5.23.0): `python tests/fixtures/tokenizer/make.py`.

use std::path::{Path, PathBuf};

use diffusion::text::cleaning::Cleaning;
use diffusion::text::tokenizer::Tokenizer;
use serde_json::{json, Value};

use crate::fixtures::{fixture, pocket, root};

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture("tokenizer").join(name)).expect("the fixture is there");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().expect("ids").iter().map(|id| id.as_i64().expect("an id")).collect()
}

/// OpenAI CLIP's own vocabulary.
fn clip() -> PathBuf {
    root().join("assets/clip_tokenizer")
}

/// A copy of a tokenizer folder that a test may spoil.
fn copy(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"] {
        if from.join(name).is_file() {
            std::fs::copy(from.join(name), folder.path().join(name)).expect("copied");
        }
    }
    folder
}

#[test]
fn tokenizer_gives_the_ids_of_openai_clip() {
    let tokenizer = Tokenizer::load(&clip()).expect("the vocabulary is whole");
    let cases = read("clip_tokenizer_reference.json");
    let cases = cases.as_array().expect("a list");
    assert!(cases.len() >= 20);
    for case in cases {
        let text = case["text"].as_str().expect("a text");
        let mut found = vec![tokenizer.bos()];
        found.extend(tokenizer.words(text));
        found.push(tokenizer.eos());
        assert_eq!(found, ids(&case["ids"]), "{text:?}");
    }
}

fn assert_as_transformers(tokenizer: Tokenizer, name: &str) {
    let fixture = read("transformers.json");
    let expected = &fixture[name];
    assert_eq!(tokenizer.max_length() as u64, expected["max_length"]);
    let frame = [tokenizer.bos(), tokenizer.eos(), tokenizer.pad()];
    assert_eq!(frame, ["bos", "eos", "pad"].map(|k| expected[k].as_i64().expect("an id")));
    let tokenizer = tokenizer.with_cleaning(Cleaning::None);
    for (i, text) in fixture["texts"].as_array().expect("texts").iter().enumerate() {
        let text = text.as_str().expect("a text");
        assert_eq!(tokenizer.words(text), ids(&expected["words"][i]), "{name}: words of {text:?}");
        assert_eq!(tokenizer.encode(text), ids(&expected["framed"][i]), "{name}: {text:?}");
    }
}

#[test]
fn tokenizer_gives_the_ids_of_transformers() {
    assert_as_transformers(Tokenizer::load(&pocket("tokenizer")).expect("whole"), "pocket");
    assert_as_transformers(Tokenizer::load(&clip()).expect("whole"), "clip");
}

#[test]
fn tokenizer_honours_another_padding_token() {
    let folder = copy(&pocket("tokenizer"));
    let path = folder.path().join("special_tokens_map.json");
    let mut map: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("read")).expect("JSON");
    map["pad_token"] = json!("!");
    std::fs::write(&path, map.to_string()).expect("written");
    assert_as_transformers(Tokenizer::load(folder.path()).expect("whole"), "padded_with_exclamation_mark");
}

#[test]
fn tokenizer_reads_tokenizer_json_where_there_is_no_vocabulary() {
    let vocabulary = std::fs::read_to_string(clip().join("vocab.json")).expect("read");
    let vocabulary: Value = serde_json::from_str(&vocabulary).expect("JSON");
    let merges = std::fs::read_to_string(clip().join("merges.txt")).expect("read");
    let merges: Vec<&str> = merges.lines().skip(1).collect();
    let words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let whole = json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "post_processor": null,
        "decoder": null,
        "model": {"type": "BPE", "unk_token": "<|endoftext|>", "end_of_word_suffix": "</w>", "vocab": vocabulary,
            "merges": merges},
    });
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("tokenizer.json"), whole.to_string()).expect("written");
    let tokenizer = Tokenizer::load(folder.path()).expect("whole");
    assert_eq!(tokenizer.words("an image that evokes awe"), [550, 2867, 682, 17962, 1115, 14106]);
    std::fs::write(folder.path().join("tokenizer.json"), "{}").expect("written");
    let message = Tokenizer::load(folder.path()).expect_err("broken").to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
}

#[test]
fn tokenizer_names_the_broken_file() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, &[&str]); 7] = [
        ("no vocabulary", |f| std::fs::remove_file(f.join("vocab.json")).expect("removed"), &["vocab.json"]),
        ("no merges", |f| std::fs::remove_file(f.join("merges.txt")).expect("removed"), &["merges.txt"]),
        ("cut vocabulary", |f| std::fs::write(f.join("vocab.json"), "{\"a\": 1,").expect("written"), &["vocab.json"]),
        (
            "ids that are none",
            |f| std::fs::write(f.join("vocab.json"), "{\"a\": \"b\"}").expect("written"),
            &["vocab.json", "a"],
        ),
        (
            "foreign merges",
            |f| std::fs::write(f.join("merges.txt"), "#version: 0.2\nq zz\n").expect("written"),
            &["merges.txt", "line 2"],
        ),
        (
            "merges of one symbol",
            |f| std::fs::write(f.join("merges.txt"), "#version\nabc\n").expect("written"),
            &["merges.txt", "line 2"],
        ),
        (
            "a length of nothing",
            |f| std::fs::write(f.join("tokenizer_config.json"), "{\"model_max_length\": 0}").expect("written"),
            &["model_max_length"],
        ),
    ];
    for (name, spoil, parts) in cases {
        let folder = copy(&pocket("tokenizer"));
        spoil(folder.path());
        let message = Tokenizer::load(folder.path()).expect_err(name).to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{name}: {message}");
        assert!(!message.contains('\n'), "{name}: {message}");
    }
}
