//! Weight names of other and older checkpoints, translated to the ones the networks ask for.

/// diffusers before 0.18 called the VAE's attention projections query, key, value and proj_attn.
pub(crate) fn vae(name: &str) -> String {
    if !name.contains(".attentions.") {
        return name.to_string();
    }
    [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")]
        .iter()
        .fold(name.to_string(), |name, (old, new)| name.replace(old, new))
}

/// A CLIPTextModel's tensors lie under `text_model.`, or, saved without the wrapper, directly at the root.
pub(crate) fn text_encoder(name: &str) -> String {
    if name.starts_with("text_model.") {
        name.to_string()
    } else {
        format!("text_model.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_attention_names_become_new_ones() {
        assert_eq!(vae("encoder.mid_block.attentions.0.query.bias"), "encoder.mid_block.attentions.0.to_q.bias");
        assert_eq!(vae("a.attentions.0.proj_attn.weight"), "a.attentions.0.to_out.0.weight");
        assert_eq!(vae("decoder.conv_in.weight"), "decoder.conv_in.weight");
    }

    #[test]
    fn text_names_gain_their_prefix_once() {
        assert_eq!(text_encoder("final_layer_norm.bias"), "text_model.final_layer_norm.bias");
        assert_eq!(text_encoder("text_model.final_layer_norm.bias"), "text_model.final_layer_norm.bias");
    }
}
