//! Parsers under random input: everything is read or refused, and nothing panics.
//!
//! FUZZ_SECONDS=600 cargo test --release --workspace fuzz      (make fuzz; a second each without it)
//!
//! Inputs are changed copies of good ones. A change that leads to a new answer (digits ignored) is changed further:
//! the parser's answer shows how far into it the input got.

#![cfg(test)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The most answers that are kept for further changes.
const CORPUS: usize = 512;

/// Bytes that have a meaning in JSON, CSV or YAML.
const TOKENS: [&[u8]; 20] = [
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\\u0000",
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"..",
    b"/",
    b"\xff",
    b"\xf0\x9f\x98\x80",
    b"18446744073709551616",
    b"\r\n",
    b"- ",
];

/// Feeds changed copies of `seeds` to `parse`, which returns the parser's answer.
pub fn fuzz(name: &str, seeds: &[&[u8]], parse: impl Fn(&[u8]) -> String) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut draws =
        Draws(u64::from_le_bytes(*blake3::hash(name.as_bytes()).as_bytes().first_chunk().expect("32 bytes")));
    let mut corpus: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    let (mut answers, mut inputs) = (BTreeSet::new(), 0u64);
    while Instant::now() < end {
        for _ in 0..100 {
            let mut input = corpus[draws.below(corpus.len())].clone();
            for _ in 0..=draws.below(4) {
                change(&mut input, &corpus, &mut draws);
            }
            let answer: String = parse(&input).chars().filter(|c| !c.is_ascii_digit()).take(60).collect();
            if answers.insert(answer) && corpus.len() < CORPUS {
                corpus.push(input);
            }
            inputs += 1;
        }
    }
    println!("{name}: {inputs} inputs, {} answers", answers.len());
    assert!(answers.len() > 3, "{name}: the fuzzer reaches nothing: {answers:?}");
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], draws: &mut Draws) {
    let at = draws.below(input.len() + 1);
    let end = (at + 1 + draws.below(16)).min(input.len());
    match draws.below(6) {
        0 if at < input.len() => input[at] ^= 1 << draws.below(8),
        1 => drop(input.splice(at..at, TOKENS[draws.below(TOKENS.len())].iter().copied())),
        2 => drop(input.splice(at..end.max(at), TOKENS[draws.below(TOKENS.len())].iter().copied())),
        3 => drop(input.drain(at..end.max(at))),
        4 => {
            let other = &corpus[draws.below(corpus.len())];
            let from = draws.below(other.len() + 1);
            let to = (from + draws.below(64)).min(other.len());
            drop(input.splice(at..at, other[from..to].iter().copied()));
        }
        _ => input.truncate(at),
    }
    input.truncate(1 << 14);
}

/// SplitMix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }
}
