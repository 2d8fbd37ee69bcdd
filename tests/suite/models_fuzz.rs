//! Models' files under random input: whatever comes is read or refused; nothing panics, hangs or takes memory that the file
//! does not have.

use std::fs;
use std::path::Path;

use diffusion::networks::{clip, clip_text, tiny_vae, unet, vae};
use diffusion::process::schedule::Schedule;
use diffusion::text::tokenizer::Tokenizer;
use diffusion::weights::{model_files, Placement, Weights};
use tch::Kind;

use crate::fixtures::{fixture, pocket};
use crate::fuzz::fuzz;

fn answer<T>(result: diffusion::Result<T>) -> String {
    match result {
        Ok(_) => "read".into(),
        // The file's name says nothing of the input.
        Err(error) => {
            let text = error.to_string();
            let after_name = ["json: ", "safetensors: "].iter().find_map(|end| text.split_once(end));
            after_name.map_or(text.clone(), |(_, what)| what.into())
        }
    }
}

#[test]
fn fuzz_safetensors_headers() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.safetensors");
    let header = br#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"I64","shape":[1],"data_offsets":[16,24]}}"#;
    fuzz("safetensors", &[header, b"{}"], |bytes| {
        let whole = [&(bytes.len() as u64).to_le_bytes(), bytes, &[0; 24]].concat();
        fs::write(&path, whole).expect("written");
        answer(Weights::from_file(&path, Placement::headers(Kind::Float)))
    });
}

#[test]
fn fuzz_configurations() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = |path: &Path| fs::read(path.join("config.json")).expect("read");
    let scheduler = fs::read(fixture("models/dpm_multistep.json")).expect("read");
    let parts = ["unet", "vae", "text_encoder", "clip", "preview_decoder"].map(|part| of(&pocket(part)));
    let seeds: Vec<&[u8]> = parts.iter().chain([&scheduler]).map(Vec::as_slice).collect();
    let index = br#"{"metadata":{"total_size":1},"weight_map":{"a":"m-00001-of-00001.safetensors"}}"#.as_slice();
    let seeds = [seeds, vec![index]].concat();
    fuzz("config.json", &seeds, |bytes| {
        let config = folder.path().join("config.json");
        for name in ["config.json", "scheduler_config.json", "m.safetensors.index.json"] {
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        [
            answer(unet::Config::read(folder.path())),
            answer(vae::Config::read(&config)),
            answer(tiny_vae::Config::read(&config)),
            answer(clip_text::Config::read(&config)),
            answer(clip::Config::read(&config)),
            answer(Schedule::read(folder.path())),
            answer(model_files(folder.path(), "m")),
        ]
        .map(|text| text.chars().take(20).collect::<String>())
        .concat()
    });
}

#[test]
fn fuzz_tokenizer_json() {
    let folder = tempfile::tempdir().expect("a folder");
    // A few tokens: the whole vocabulary would leave the rest of the file hardly ever changed.
    let mut small: serde_json::Value =
        serde_json::from_slice(&fs::read(fixture("models/padded.json")).expect("read")).expect("JSON");
    let words = ["a", "b", "ab", "a</w>", "<|startoftext|>", "<|endoftext|>"];
    small["model"]["vocab"] = serde_json::json!({});
    for (id, word) in words.iter().enumerate() {
        small["model"]["vocab"][word] = id.into();
    }
    small["model"]["merges"] = serde_json::json!(["a b"]);
    for (token, id) in small["added_tokens"].as_array_mut().expect("tokens").iter_mut().zip([4, 5]) {
        token["id"] = id.into();
    }
    let seed = small.to_string();
    fuzz("tokenizer.json", &[seed.as_bytes()], |bytes| {
        fs::write(folder.path().join("tokenizer.json"), bytes).expect("written");
        answer(Tokenizer::load(folder.path()).map(|tokenizer| tokenizer.encode("a photo of awe \u{1f600}")))
    });
}
