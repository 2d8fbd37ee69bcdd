//! What a pass costs, against torch.utils.flop_counter over diffusers' and transformers' modules.
//!
//! Fixture: python tests/fixtures/cost/make.py (torch 2.11.0, diffusers 0.42.1, transformers 5.23.0)

use std::fs;
use std::path::Path;

use diffusion::networks::cost::{self, Macs};
use diffusion::networks::{clip, tiny_vae, unet, vae};
use serde_json::Value;

use crate::fixtures::fixture;

/// The cases of one kind of network, each with its config.json written to a folder.
fn each(kind: &str, check: impl Fn(&Path, &Value)) {
    let text = fs::read_to_string(fixture("cost/cases.json")).expect("the fixture is readable");
    let cases: Value = serde_json::from_str(&text).expect("the fixture is JSON");
    let cases = cases[kind].as_array().expect("cases of that kind");
    assert!(!cases.is_empty());
    for case in cases {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("config.json"), case["config"].to_string()).expect("written");
        check(folder.path(), case);
    }
}

#[track_caller]
fn assert_flop(found: Macs, expected: &Value) {
    assert_eq!(2 * found.forward(), expected.as_u64().expect("a count"));
}

fn number(case: &Value, key: &str) -> i64 {
    case[key].as_i64().expect("a number")
}

#[test]
fn unets() {
    each("unet", |folder, case| {
        let config = unet::Config::read(folder).expect("a supported configuration");
        let found = cost::unet(&config, number(case, "side"), number(case, "tokens"));
        assert_flop(found.down, &case["down"]);
        assert_flop(found.mid, &case["mid"]);
        assert_flop(found.up, &case["up"]);
    });
}

#[test]
fn autoencoders() {
    each("vae", |folder, case| {
        let config = vae::Config::read(&folder.join("config.json")).expect("a supported configuration");
        assert_flop(cost::vae_encode(&config, number(case, "side")), &case["encode"]);
        assert_flop(cost::vae_decode(&config, number(case, "side")), &case["decode"]);
    });
    each("tiny_vae", |folder, case| {
        let config = tiny_vae::Config::read(&folder.join("config.json")).expect("a supported configuration");
        assert_flop(cost::tiny_vae_decode(&config, number(case, "side")), &case["decode"]);
    });
}

#[test]
fn both_halves_of_clip() {
    each("clip", |folder, case| {
        let config = clip::Config::read(&folder.join("config.json")).expect("a supported configuration");
        assert_flop(cost::clip_image(&config), &case["image"]);
        assert_flop(cost::text_encoder(&config.text, number(case, "tokens")), &case["text"]);
    });
}
