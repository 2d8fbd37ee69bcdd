//! The baselines against what others make of the same photos: numpy's colours, torch's AdaIN and means, diffusers' SDEdit.
//!
//! Fixture: python tests/fixtures/methods/make.py

use std::rc::Rc;

use diffusion::pipeline::Pipeline;
use diffusion::run::{Learned, Run};
use diffusion::tokens::{Prompt, TokenSettings, Tokens};
use emotions::Emotion;
use evaluator::evaluation::batch::Batch;
use evaluator::evaluation::evaluation_plan::EvaluationPlan;
use evaluator::methods::sdedit::{sdedit, Conditions, Sampler};
use evaluator::methods::Method;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{read_json, Workshop};
use crate::fixtures::{assert_close, fixture, pocket, tensors};

const STEPS: i64 = 10;

/// Every method's key, in the report's order.
const KEYS: [&str; 10] = [
    "no_edit",
    "vae_round_trip",
    "shuffled",
    "colour_transfer",
    "adain",
    "latent_arithmetic",
    "prompt_word",
    "sdedit_word",
    "sdedit_token",
    "joint",
];

#[test]
fn sdedit_is_diffusers_image_to_image() {
    let _no_grad = tch::no_grad_guard();
    let pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket pipeline");
    let fixture = tensors("methods/edits.safetensors");
    let prompt = Prompt::plain(&pipeline.tokenizer, "a person showing sadness");
    let conditions = Conditions::new(&pipeline, pipeline.context(&prompt, None));
    for (name, strength, guidance_scale) in [("low", 0.35, 1.0), ("high", 0.75, 4.0), ("all", 1.0, 1.0)] {
        let sampler = Sampler { num_inference_steps: STEPS, guidance_scale, seed: 0 };
        let (latents, noise) = (&fixture["latents"], &fixture["sdedit.noise"]);
        let edited = sdedit(&pipeline, latents, noise, &conditions, &sampler, strength).expect("a valid strength");
        assert_close(name, &edited, &fixture[&format!("sdedit.{name}")], 1e-3);
    }
}

/// The workshop with style images, and the recipe's lines that name them.
fn with_style() -> (Workshop, String) {
    let workshop = Workshop::new();
    workshop.encode(&fixture("methods/style"), "style");
    let set = format!("style_images={{shards: {}, filter: {{split: train}}}}", workshop.path("style").display());
    (workshop, set)
}

/// Every baseline at strengths 0 and 1, SDEdit in few steps.
fn baselines(workshop: &Workshop) -> String {
    let sampler = format!("sampler: {{num_inference_steps: {STEPS}, guidance_scale: 2.0}}");
    let all = ["colour_transfer", "adain", "latent_arithmetic"].map(|m| format!("{{method: {m}, strengths: [0, 1]}}"));
    format!(
        "methods=[{}, {{method: sdedit_word, strengths: [0], prompt: \"a person showing {{emotion}}\", {sampler}}}, \
         {{method: sdedit_token, strengths: [0], run: {run}, {sampler}}}, \
         {{method: prompt_word, strengths: [0, 1], run: {run}, prompt: \"a person showing {{emotion}}\"}}]",
        all.join(", "),
        run = workshop.path("run").display(),
    )
}

fn methods_of(workshop: &Workshop, style: &str) -> (Batch, Vec<Rc<dyn Method>>) {
    let plan = workshop.plan(&[style, &baselines(workshop)]);
    let evaluation_plan = EvaluationPlan::open(&plan).expect("every method loads");
    let first = (0..evaluation_plan.sources.len()).find(|&i| evaluation_plan.sources.entry(i).path.contains("awe"));
    let batch = evaluation_plan.sources.batch(first.expect("the fixture's source"), 1).expect("readable");
    (
        batch,
        evaluation_plan.methods_by_emotion.into_iter().flat_map(|emotion_methods| emotion_methods.methods).collect(),
    )
}

/// A method's edit at one strength.
fn edit(methods: &[Rc<dyn Method>], key: &str, batch: &Batch, strength: f64) -> Tensor {
    let method = methods.iter().find(|m| m.about().key == key).expect("it takes part");
    let place = method.strengths().iter().position(|&s| s == strength).expect("it is run at this strength");
    method.edits(batch).expect("edited").remove(place)
}

#[test]
fn styles_are_copied_as_numpy_torch_and_diffusers_do() {
    let (workshop, style) = with_style();
    let (batch, methods) = methods_of(&workshop, &style);
    let fixture = tensors("methods/edits.safetensors");
    // Shards hold latents in f16: the two latent methods carry its rounding.
    for (key, tolerance) in [("colour_transfer", 1e-4), ("adain", 2e-3), ("latent_arithmetic", 2e-3)] {
        assert_close(key, &edit(&methods, key, &batch, 1.0), &fixture[key], tolerance);
    }
}

#[test]
fn strength_zero_is_the_photo_or_its_round_trip_bit_for_bit() {
    let (workshop, style) = with_style();
    let (batch, methods) = methods_of(&workshop, &style);
    let trip = methods.iter().find(|m| m.about().key == "vae_round_trip").expect("a control");
    let trip = trip.edits(&batch).expect("decoded").remove(0);
    assert_eq!(edit(&methods, "colour_transfer", &batch, 0.0), batch.images);
    assert_eq!(edit(&methods, "prompt_word", &batch, 0.0), batch.images, "its run brings the detail back");
    for key in ["adain", "latent_arithmetic", "sdedit_word", "sdedit_token"] {
        assert_eq!(edit(&methods, key, &batch, 0.0), trip, "{key}");
    }
}

/// A run whose one token a word is that word's own embedding has learned nothing: under it, textual inversion is the plain
/// word in the prompt.
#[test]
fn the_word_in_the_prompt_is_an_untrained_token() {
    let workshop = Workshop::new();
    let pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket pipeline");
    let settings = TokenSettings {
        placeholder_token: "<{emotion}>".into(),
        initializer_token: "{emotion}".into(),
        num_vectors: 1,
    };
    let (emotions, encoder) = (vec!["sadness".to_string()], &pipeline.text_encoder);
    let word = Prompt::plain(&pipeline.tokenizer, "sadness");
    assert_eq!(word.eos, 2, "the word is one token");
    let (tokens, _) =
        Tokens::new(&pipeline.tokenizer, encoder, &emotions, &settings, Device::Cpu).expect("the word's own embedding");
    let mut config = super::untrained(&pipeline, emotions);
    config.tokens.as_mut().expect("tokens").num_vectors = 1;
    config.delta = None;
    Run::save(&workshop.path("word"), &config, &Learned { tokens: Some(tokens), deltas: None }).expect("saved");
    let run = workshop.path("word").display().to_string();
    let methods = format!(
        "methods=[{{method: prompt_word, run: {run}, prompt: \"a person showing {{emotion}}\", strengths: [1]}}]"
    );
    let runs = format!("runs=[{{method: textual_inversion, run: {run}}}]");
    let plan = workshop.plan(&[&methods, &runs, "headline={strength: 1.0}", "strengths=[1.0]"]);
    let evaluation_plan = EvaluationPlan::open(&plan).expect("every method loads");
    let batch = evaluation_plan.sources.batch(0, 2).expect("readable");
    let methods: Vec<Rc<dyn Method>> =
        evaluation_plan.methods_by_emotion.into_iter().flat_map(|emotion_methods| emotion_methods.methods).collect();
    let (word, token) = (edit(&methods, "prompt_word", &batch, 1.0), edit(&methods, "textual_inversion", &batch, 1.0));
    assert!((&word - &batch.images).abs().max().double_value(&[]) > 0.05, "the word does something");
    assert_close("edits", &word, &token, 1e-5);
}

#[test]
fn every_method_has_its_row_and_its_place_at_equal_lpips() {
    let (workshop, style) = with_style();
    let outcome = workshop.evaluate(&[&style, &baselines(&workshop)]).expect("evaluated");
    let report = read_json(&outcome.folder.join("report.json"));
    let methods = report["methods"].as_object().expect("an object");
    assert!(KEYS.iter().all(|key| methods[*key]["n"] == 4) && methods.len() == KEYS.len(), "{:?}", methods.keys());
    let bound = methods["joint"]["lpips"].as_f64().expect("a number");
    for key in KEYS.iter().filter(|key| !methods[**key]["control"].as_bool().expect("a flag")) {
        let equal = &methods[*key]["at_equal_lpips"];
        match *key {
            "joint" => assert_eq!(equal, &Value::Null, "the reference itself"),
            _ if equal["is_largest_strength_run"] == true => assert!(equal["lpips"].as_f64() <= Some(bound), "{key}"),
            _ => assert!((equal["lpips"].as_f64().expect("a number") - bound).abs() < 1e-9, "{key}: {equal}"),
        }
    }
    let found = &report["provenance"]["style_images"]["found"];
    assert_eq!((&found["n"], &found["n_per_emotion"]["sadness"]), (&Value::from(7), &Value::from(3)));
    let html = std::fs::read_to_string(outcome.folder.join("index.html")).expect("readable");
    assert!(html.contains("At the LPIPS of Joint") && html.contains("Colour transfer"));
    assert!(outcome.table.contains("At the LPIPS of Joint"), "{}", outcome.table);
}

#[test]
fn baselines_that_cannot_work_are_refused() {
    let (workshop, style) = with_style();
    workshop.refused(&["methods=[{method: adain}]"], &["style_images", "adain"]);
    workshop.refused(&["methods=[{method: adian}]"], &["adian", "adain"]);
    workshop.refused(&["methods=[{method: adain, strenghts: [1]}]"], &["strenghts"]);
    workshop.refused(&[&style, "methods=[{method: adain}, {method: adain}]"], &["methods.1", "adain"]);
    workshop.refused(&["methods=[{method: sdedit_word, strengths: [1.5]}]"], &["methods.0.strengths", "1"]);
    workshop.refused(&["methods=[{method: sdedit_word, prompt: sad}]"], &["methods.0.prompt", "{emotion}"]);
    let guidance = "methods=[{method: sdedit_word, sampler: {guidance_scale: 0.5}}]";
    workshop.refused(&[guidance], &["methods.0.sampler.guidance_scale"]);
    workshop.refused(&["methods=[{method: sdedit_token, run: runs/none}]"], &["runs/none", "edit_config.json"]);
    workshop.refused(&["methods=[{method: prompt_word, run: runs/none}]"], &["runs/none", "edit_config.json"]);
    let no_word = format!("methods=[{{method: prompt_word, run: {}, prompt: sad}}]", workshop.path("run").display());
    workshop.refused(&[&no_word], &["methods.0.prompt", "{emotion}"]);
    let run = format!("methods=[{{method: sdedit_token, run: {}}}]", workshop.path("run").display());
    workshop.refused(&["runs=[]", "headline={}", "emotion=awe", &run], &["methods.0.run", "sadness", "awe"]);
    workshop.refused(&["headline.equal_lpips=adain"], &["headline.equal_lpips", "adain", "joint"]);
    workshop.refused(&["headline.per_method={asyrp: 1}"], &["headline.per_method", "asyrp", "joint"]);
    let awe = ["runs=[]", "headline={}", "emotion=awe", style.as_str(), "methods=[{method: adain}]"];
    workshop.refused(&awe, &["style_images", "awe"]);
}

#[test]
fn style_images_must_not_be_sources() {
    let (workshop, _) = with_style();
    let methods = "methods=[{method: colour_transfer}]";
    let own =
        |filter: &str| format!("style_images={{shards: {}/, filter: {filter}}}", workshop.path("shards").display());
    workshop.refused(&[methods, &own("{split: test}")], &["style_images.filter.split", "test"]);
    workshop.refused(&[methods, &own("{}")], &["style_images.filter.split", "any"]);
    // The same pictures under another name and another split.
    let folder = workshop.path("copies");
    let faces = fixture("metrics/faces/test/sadness");
    std::fs::create_dir_all(folder.join("train/sadness")).expect("made");
    for entry in std::fs::read_dir(faces).expect("a folder") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), folder.join("train/sadness").join(entry.file_name())).expect("copied");
    }
    workshop.encode(&folder, "copied");
    let copied = format!("style_images={{shards: {}, filter: {{split: train}}}}", workshop.path("copied").display());
    workshop.refused(&[methods, &copied], &["style_images", "sources"]);
}

#[test]
fn an_emotions_statistics_do_not_depend_on_how_many_emotions_are_evaluated() {
    let (workshop, style) = with_style();
    let only = "methods=[{method: latent_arithmetic}]";
    let edits = |emotions: &str| {
        let plan = workshop.plan(&["runs=[]", "headline={}", "emotion=null", emotions, &style, only]);
        let evaluation_plan = EvaluationPlan::open(&plan).expect("every method loads");
        let batch = evaluation_plan.sources.batch(0, 1).expect("readable");
        let emotion_methods =
            evaluation_plan.methods_by_emotion.iter().find(|l| l.emotion == Emotion::Fear).expect("fear is evaluated");
        edit(&emotion_methods.methods, "latent_arithmetic", &batch, 1.0)
    };
    assert_eq!(edits("emotions=[fear]"), edits("emotions=[fear, sadness]"));
}
