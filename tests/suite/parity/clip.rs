//! Parity of TextEncoder and Clip with transformers' CLIPTextModel and CLIPModel.
//!
//! Fixture: python tests/fixtures/clip/make.py (torch 2.11.0, transformers 5.23.0)

use diffusion::networks::clip::Clip;
use diffusion::networks::clip_text::TextEncoder;
use tch::{Device, Kind, Tensor};

use crate::fixtures::{assert_close, fixture, pocket, tensors};

const TEXT: [&str; 2] = ["text_quick_gelu", "text_gelu"];
const CLIP: [&str; 2] = ["highest_id", "first_eos"];

fn text(case: &str) -> TextEncoder {
    TextEncoder::load(&fixture(&format!("clip/{case}")), Device::Cpu, Kind::Float).expect("the case is supported")
}

fn clip(case: &str) -> Clip {
    Clip::load(&fixture(&format!("clip/{case}")), Device::Cpu, Kind::Float).expect("the case is supported")
}

#[test]
fn hidden_states_equal_transformers() {
    for case in TEXT {
        let (encoder, data) = (text(case), tensors(&format!("clip/{case}/expected.safetensors")));
        let hidden = encoder.forward(&data["ids"]);
        assert_close(case, &hidden, &data["last_hidden_state"], 1e-4);
        let short = encoder.forward(&data["ids"].narrow(1, 0, 4));
        assert_close(&format!("{case}: short"), &short, &data["short_hidden_state"], 1e-4);
        assert_eq!(hidden.size(), [3, encoder.max_length(), encoder.hidden_size()]);
    }
}

#[test]
fn token_embeddings_stand_in_for_ids() {
    for case in TEXT {
        let (encoder, data) = (text(case), tensors(&format!("clip/{case}/expected.safetensors")));
        let embeddings = encoder.embed_tokens(&data["ids"]);
        assert_eq!(embeddings.select(0, 1).select(0, 2), {
            let id = data["ids"].int64_value(&[1, 2]);
            encoder.token_table().select(0, id)
        });
        assert_eq!(encoder.forward_embeddings(&embeddings), encoder.forward(&data["ids"]), "{case}");
    }
}

#[test]
fn a_token_sees_none_that_follow() {
    let (encoder, data) = (text("text_gelu"), tensors("clip/text_gelu/expected.safetensors"));
    let embeddings = encoder.embed_tokens(&data["ids"]).set_requires_grad(true);
    encoder.forward_embeddings(&embeddings).narrow(1, 2, 1).square().sum(Kind::Float).backward();
    let slope = embeddings.grad().square().sum_dim_intlist([0i64, 2].as_slice(), false, Kind::Float);
    let slopes: Vec<f32> = Vec::try_from(slope).expect("a slope a token");
    assert!(slopes[..3].iter().all(|&s| s > 0.0) && slopes[3..].iter().all(|&s| s == 0.0), "{slopes:?}");
}

#[test]
fn embeddings_equal_transformers() {
    for case in CLIP {
        let (clip, data) = (clip(case), tensors(&format!("clip/{case}/expected.safetensors")));
        assert_close(&format!("{case}: text"), &clip.text_embeds(&data["ids"]), &data["text_embeds"], 1e-4);
        let image = clip.image_embeds(&data["pixel_values"]);
        assert_close(&format!("{case}: image"), &image, &data["image_embeds"], 1e-4);
        assert_eq!(clip.image_size(), data["pixel_values"].size()[3]);
        assert_eq!(clip.projection_dim(), image.size()[1]);
    }
}

#[test]
fn the_end_of_text_is_found_as_in_transformers() {
    for (case, expected) in [("highest_id", [3, 7, 1]), ("first_eos", [3, 8, 1])] {
        let (clip, data) = (clip(case), tensors(&format!("clip/{case}/expected.safetensors")));
        let positions = clip.text().eos_positions(&data["ids"]);
        assert_eq!(positions, Tensor::from_slice(&expected.map(i64::from)), "{case}");
        let embeddings = clip.text().embed_tokens(&data["ids"]);
        let found = clip.text_embeds_from(&embeddings, &positions);
        assert_close(case, &found, &data["text_embeds"], 1e-4);
    }
}

#[test]
fn the_embedded_encoders_equal_transformers() {
    let data = tensors("clip/pocket.safetensors");
    let text = TextEncoder::load(&pocket("text_encoder"), Device::Cpu, Kind::Float).expect("the embedded encoder");
    assert_close("hidden states", &text.forward(&data["ids"]), &data["last_hidden_state"], 1e-4);
    let clip = Clip::load(&pocket("clip"), Device::Cpu, Kind::Float).expect("the embedded CLIP");
    assert_close("texts", &clip.text_embeds(&data["ids"]), &data["text_embeds"], 1e-4);
    assert_close("images", &clip.image_embeds(&data["pixel_values"]), &data["image_embeds"], 1e-4);
}

#[test]
fn a_text_model_is_not_a_clip() {
    let error = Clip::load(&fixture("clip/text_gelu"), Device::Cpu, Kind::Float).expect_err("only half").to_string();
    assert!(error.contains("model_type: \"clip_text_model\" is not supported, only [\"clip\"]"), "{error}");
    let error = TextEncoder::load(&pocket("clip"), Device::Cpu, Kind::Float).expect_err("both halves").to_string();
    assert!(error.contains("model_type: \"clip\" is not supported, only [\"clip_text_model\"]"), "{error}");
}
