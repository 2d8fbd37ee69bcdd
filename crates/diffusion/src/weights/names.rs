//! Weight names of other and older checkpoints, translated to the ones the networks ask for.

/// torch.compile wraps a module as `_orig_mod`, and DistributedDataParallel the whole as `module`; their weights are the
/// wrapped module's own.
pub(crate) fn without_wrappers(name: &str) -> String {
    let name = name.strip_prefix("module.").unwrap_or(name);
    name.replace("_orig_mod.", "")
}

/// diffusers before 0.18 called the VAE's attention projections query, key, value and proj_attn.
pub(crate) fn vae(name: &str) -> String {
    if !name.contains(".attentions.") {
        return name.to_string();
    }
    [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")]
        .iter()
        .fold(name.to_string(), |name, (old, new)| name.replace(old, new))
}

/// A CLIPTextModel's tensors lie under `text_model.`, or, saved without the wrapper, directly at the root. The
/// projection of a CLIPTextModelWithProjection is at the root of both.
pub(crate) fn text_encoder(name: &str) -> String {
    if name.starts_with("text_model.") || name.starts_with("text_projection.") {
        name.to_string()
    } else {
        format!("text_model.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_taken_off_wherever_they_stand() {
        for name in ["_orig_mod.down.0.conv.bias", "down.0._orig_mod.conv.bias", "module._orig_mod.down.0.conv.bias"] {
            assert_eq!(without_wrappers(name), "down.0.conv.bias");
        }
        assert_eq!(without_wrappers("modules.0.weight"), "modules.0.weight");
    }

    #[test]
    fn old_attention_names_become_new_ones() {
        assert_eq!(vae("encoder.mid_block.attentions.0.query.bias"), "encoder.mid_block.attentions.0.to_q.bias");
        assert_eq!(vae("a.attentions.0.proj_attn.weight"), "a.attentions.0.to_out.0.weight");
        assert_eq!(vae("decoder.conv_in.weight"), "decoder.conv_in.weight");
    }

    #[test]
    fn text_names_gain_their_prefix_once() {
        assert_eq!(text_encoder("final_layer_norm.bias"), "text_model.final_layer_norm.bias");
        for name in ["text_model.final_layer_norm.bias", "text_projection.weight"] {
            assert_eq!(text_encoder(name), name);
        }
    }
}
