//! From the names of CompVis's latent-diffusion and of OpenCLIP to those of diffusers and transformers.
//!
//! The inverse of `scripts/convert_diffusers_to_original_stable_diffusion.py` in the diffusers repository.

/// A UNet with `layers` residual blocks a level. The original numbers the blocks of the down path, and of the up
/// path, in one row.
pub(super) fn unet(name: &str, layers: i64) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let number = |text: &str| text.parse::<i64>().ok();
    match parts.as_slice() {
        ["time_embed", "0", rest @ ..] => under("time_embedding.linear_1", rest),
        ["time_embed", "2", rest @ ..] => under("time_embedding.linear_2", rest),
        ["out", "0", rest @ ..] => under("conv_norm_out", rest),
        ["out", "2", rest @ ..] => under("conv_out", rest),
        ["input_blocks", "0", "0", rest @ ..] => under("conv_in", rest),
        ["input_blocks", block, place, rest @ ..] => match number(block) {
            Some(block) if block > 0 => {
                let (level, layer) = ((block - 1) / (layers + 1), (block - 1) % (layers + 1));
                unet_block(&format!("down_blocks.{level}"), layer, place, rest)
            }
            _ => name.to_string(),
        },
        ["middle_block", "0", rest @ ..] => resnet("mid_block.resnets.0", rest),
        ["middle_block", "1", rest @ ..] => under("mid_block.attentions.0", rest),
        ["middle_block", "2", rest @ ..] => resnet("mid_block.resnets.1", rest),
        ["output_blocks", block, place, rest @ ..] => match number(block) {
            Some(block) => {
                let (level, layer) = (block / (layers + 1), block % (layers + 1));
                unet_block(&format!("up_blocks.{level}"), layer, place, rest)
            }
            None => name.to_string(),
        },
        _ => name.to_string(),
    }
}

fn unet_block(level: &str, layer: i64, place: &str, rest: &[&str]) -> String {
    match (place, rest) {
        ("0", ["op", rest @ ..]) => under(&format!("{level}.downsamplers.0.conv"), rest),
        ("1" | "2", ["conv", rest @ ..]) => under(&format!("{level}.upsamplers.0.conv"), rest),
        ("0", _) => resnet(&format!("{level}.resnets.{layer}"), rest),
        _ => under(&format!("{level}.attentions.{layer}"), rest),
    }
}

fn resnet(block: &str, rest: &[&str]) -> String {
    match rest {
        ["in_layers", "0", rest @ ..] => under(&format!("{block}.norm1"), rest),
        ["in_layers", "2", rest @ ..] => under(&format!("{block}.conv1"), rest),
        ["emb_layers", "1", rest @ ..] => under(&format!("{block}.time_emb_proj"), rest),
        ["out_layers", "0", rest @ ..] => under(&format!("{block}.norm2"), rest),
        ["out_layers", "3", rest @ ..] => under(&format!("{block}.conv2"), rest),
        ["skip_connection", rest @ ..] => under(&format!("{block}.conv_shortcut"), rest),
        _ => under(block, rest),
    }
}

/// A VAE with `levels` resolutions. The original numbers the decoder's from the image, diffusers from the latents.
pub(super) fn vae(name: &str, levels: usize) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let (half, parts) = match parts.as_slice() {
        [half @ ("encoder" | "decoder"), rest @ ..] => (*half, rest),
        _ => return name.to_string(),
    };
    match parts {
        ["norm_out", rest @ ..] => under(&format!("{half}.conv_norm_out"), rest),
        ["mid", "block_1", rest @ ..] => vae_resnet(&format!("{half}.mid_block.resnets.0"), rest),
        ["mid", "block_2", rest @ ..] => vae_resnet(&format!("{half}.mid_block.resnets.1"), rest),
        ["mid", "attn_1", rest @ ..] => vae_attention(&format!("{half}.mid_block.attentions.0"), rest),
        ["down", level, "block", block, rest @ ..] => {
            vae_resnet(&format!("{half}.down_blocks.{level}.resnets.{block}"), rest)
        }
        ["down", level, "downsample", rest @ ..] => under(&format!("{half}.down_blocks.{level}.downsamplers.0"), rest),
        ["up", level, rest @ ..] => {
            let Some(from_latents) = level.parse().ok().and_then(|level: usize| (levels - 1).checked_sub(level)) else {
                return name.to_string();
            };
            let level = format!("{half}.up_blocks.{from_latents}");
            match rest {
                ["block", block, rest @ ..] => vae_resnet(&format!("{level}.resnets.{block}"), rest),
                ["upsample", rest @ ..] => under(&format!("{level}.upsamplers.0"), rest),
                _ => name.to_string(),
            }
        }
        _ => name.to_string(),
    }
}

fn vae_resnet(block: &str, rest: &[&str]) -> String {
    match rest {
        ["nin_shortcut", rest @ ..] => under(&format!("{block}.conv_shortcut"), rest),
        _ => under(block, rest),
    }
}

fn vae_attention(block: &str, rest: &[&str]) -> String {
    let (old, rest) = rest.split_first().unwrap_or((&"", &[]));
    let new = match *old {
        "norm" => "group_norm",
        "q" => "to_q",
        "k" => "to_k",
        "v" => "to_v",
        "proj_out" => "to_out.0",
        other => other,
    };
    under(&format!("{block}.{new}"), rest)
}

/// OpenCLIP's text half as a CLIPTextModel; `in_proj_…` keeps its name here and is split into three tensors later.
pub(super) fn open_clip(name: &str) -> String {
    match name {
        "positional_embedding" => return "text_model.embeddings.position_embedding.weight".into(),
        "token_embedding.weight" => return "text_model.embeddings.token_embedding.weight".into(),
        _ => {}
    }
    if let Some(rest) = name.strip_prefix("ln_final.") {
        return format!("text_model.final_layer_norm.{rest}");
    }
    let Some((layer, rest)) = name.strip_prefix("transformer.resblocks.").and_then(|r| r.split_once('.')) else {
        return name.to_string();
    };
    let renames = [
        ("ln_1.", "layer_norm1."),
        ("ln_2.", "layer_norm2."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
        ("attn.", "self_attn."),
    ];
    let renamed = renames.iter().find_map(|(old, new)| rest.strip_prefix(old).map(|rest| format!("{new}{rest}")));
    format!("text_model.encoder.layers.{layer}.{}", renamed.unwrap_or_else(|| rest.to_string()))
}

fn under(place: &str, rest: &[&str]) -> String {
    rest.iter().fold(place.to_string(), |name, part| format!("{name}.{part}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_every_kind_gets_its_place() {
        for (old, new) in [
            ("input_blocks.0.0.weight", "conv_in.weight"),
            ("input_blocks.3.0.op.bias", "down_blocks.0.downsamplers.0.conv.bias"),
            ("input_blocks.5.0.in_layers.2.weight", "down_blocks.1.resnets.1.conv1.weight"),
            (
                "input_blocks.5.1.transformer_blocks.0.attn1.to_out.0.bias",
                "down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0.bias",
            ),
            ("middle_block.2.skip_connection.weight", "mid_block.resnets.1.conv_shortcut.weight"),
            ("output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
            ("output_blocks.5.2.conv.weight", "up_blocks.1.upsamplers.0.conv.weight"),
            ("output_blocks.11.1.proj_in.weight", "up_blocks.3.attentions.2.proj_in.weight"),
            ("out.2.bias", "conv_out.bias"),
            ("label_emb.0.0.weight", "label_emb.0.0.weight"),
        ] {
            assert_eq!(unet(old, 2), new);
        }
        for (old, new) in [
            ("decoder.up.3.block.2.nin_shortcut.weight", "decoder.up_blocks.0.resnets.2.conv_shortcut.weight"),
            ("decoder.up.1.upsample.conv.bias", "decoder.up_blocks.2.upsamplers.0.conv.bias"),
            ("encoder.down.0.downsample.conv.bias", "encoder.down_blocks.0.downsamplers.0.conv.bias"),
            ("encoder.mid.attn_1.proj_out.weight", "encoder.mid_block.attentions.0.to_out.0.weight"),
            ("quant_conv.weight", "quant_conv.weight"),
        ] {
            assert_eq!(vae(old, 4), new);
        }
        let layer = "transformer.resblocks.7";
        for (old, new) in [
            ("ln_1.weight", "layer_norm1.weight"),
            ("attn.out_proj.bias", "self_attn.out_proj.bias"),
            ("attn.in_proj_weight", "self_attn.in_proj_weight"),
            ("mlp.c_proj.bias", "mlp.fc2.bias"),
        ] {
            assert_eq!(open_clip(&format!("{layer}.{old}")), format!("text_model.encoder.layers.7.{new}"));
        }
    }
}
