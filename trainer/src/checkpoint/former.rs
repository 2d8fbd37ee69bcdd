//! Checkpoints of format version 1, converted to this version. There the tokens of all emotions lay in one tensor
//! `tokens` (e, n, d), in the recipe's order, and one count of updates stood for every parameter's.

use anyhow::{ensure, Context};
use tch::{Kind, Tensor};

use super::{Snapshot, Tensors};

/// Names the tokens by their emotions, in every file, and gives each pair of moments its own count of steps.
pub fn upgrade(snapshot: &mut Snapshot) -> anyhow::Result<()> {
    let emotions = snapshot.state["config"]["emotions"].as_array().context("the state names no emotions")?;
    let emotions: Vec<String> = emotions.iter().filter_map(|e| Some(e.as_str()?.to_string())).collect();
    let updates = snapshot.state["updates"].as_u64().context("the state names no number of updates")?;
    for (file, stem) in [("tokens", ""), ("ema", ""), ("optimizer", "tokens.")] {
        let Some(tensors) = snapshot.files.get_mut(file) else { continue };
        for ending in ["", ".exp_avg", ".exp_avg_sq"] {
            split(tensors, stem, ending, &emotions).with_context(|| format!("{file}.safetensors"))?;
        }
    }
    if let Some(optimizer) = snapshot.files.get_mut("optimizer") {
        let counted: Vec<String> =
            optimizer.keys().filter_map(|name| name.strip_suffix(".exp_avg")).map(str::to_string).collect();
        let steps = || Tensor::from(updates as f64).to_kind(Kind::Float);
        optimizer.extend(counted.into_iter().map(|name| (format!("{name}.step"), steps())));
    }
    Ok(())
}

/// Splits `<stem>tokens<ending>` (e, n, d) into `<stem><emotion><ending>` (n, d) for each emotion.
fn split(tensors: &mut Tensors, stem: &str, ending: &str, emotions: &[String]) -> anyhow::Result<()> {
    let name = format!("{stem}tokens{ending}");
    let Some(whole) = tensors.remove(&name) else { return Ok(()) };
    let (found, count) = (whole.size(), emotions.len() as i64);
    ensure!(
        found.len() == 3 && found[0] == count,
        "tensor {name} has shape {found:?}, the recipe has {count} emotions"
    );
    tensors
        .extend(emotions.iter().zip(whole.unbind(0)).map(|(emotion, rows)| (format!("{stem}{emotion}{ending}"), rows)));
    Ok(())
}
