//! Δh, the h-space delta: what is added to the UNet's bottleneck. Kwon et al. 2023 (Asyrp), sec. 4.1 and fig. 4.
//!
//! `f(h, t)`: 1×1 conv, plus a projection of the time embedding, GroupNorm, SiLU, 1×1 conv. Here the last conv starts
//! at zero, so the first Δh is zero. Δh may be conditioned on an emotion's pooled token embedding by FiLM (Perez et
//! al. 2018); then one network serves several emotions.
//!
//! Shapes: b batch, c bottleneck channels, e time-embedding channels, d text features.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::noise;
use crate::weights::{Placement, Scope, Weights};

const GROUPS: i64 = 32;
const EPS: f64 = 1e-6;

/// The sizes that a delta takes from its UNet and text encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// Channels of the bottleneck.
    pub channels: i64,
    /// Channels of the time embedding.
    pub temb_channels: i64,
    /// Features of the pooled token embedding, where the delta is conditioned on it.
    pub token_features: Option<i64>,
}

/// One `f(h, t)`; every tensor is a trainable leaf.
#[derive(Debug)]
pub struct Delta {
    parameters: BTreeMap<String, Tensor>,
    conditioned: bool,
}

impl Delta {
    /// A fresh delta whose output is zero; `name` seeds its draws, so that emotions differ and ranks agree.
    pub fn new(dimensions: Dimensions, seed: u64, name: &str, device: Device) -> Self {
        let Dimensions { channels: c, temb_channels: e, token_features } = dimensions;
        let uniform = |key: &str, shape: &[i64], fan_in: i64| {
            // PyTorch's default for conv and linear: uniform in ±1/√fan_in. A normal draw becomes uniform through its
            // CDF.
            let bound = 1.0 / (fan_in as f64).sqrt();
            let draws = noise::normal(seed, &format!("delta/{name}/{key}"), 0, shape);
            (draws / std::f64::consts::SQRT_2).erf() * bound
        };
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let mut parameters = BTreeMap::from([
            ("conv1.weight".to_string(), uniform("conv1.weight", &[c, c, 1, 1], c)),
            ("conv1.bias".to_string(), uniform("conv1.bias", &[c], c)),
            ("temb_proj.weight".to_string(), uniform("temb_proj.weight", &[c, e], e)),
            ("temb_proj.bias".to_string(), uniform("temb_proj.bias", &[c], e)),
            ("norm2.weight".to_string(), Tensor::ones([c], (Kind::Float, Device::Cpu))),
            ("norm2.bias".to_string(), zeros(&[c])),
            ("conv2.weight".to_string(), zeros(&[c, c, 1, 1])),
            ("conv2.bias".to_string(), zeros(&[c])),
        ]);
        if let Some(d) = token_features {
            parameters.insert("film.weight".into(), zeros(&[2 * c, d]));
            parameters.insert("film.bias".into(), zeros(&[2 * c]));
        }
        let parameters = parameters.into_iter().map(|(k, v)| (k, leaf(v, device))).collect();
        Self { parameters, conditioned: token_features.is_some() }
    }

    /// Reads a delta of our own or of Asyrp's release (`conv1`, `temb_proj`, `norm2`, `conv2`) below `scope`.
    pub fn load(scope: &Scope<'_>, dimensions: Dimensions, device: Device) -> Result<Self> {
        let mut delta = Self::new(dimensions, 0, "", device);
        for (name, parameter) in &mut delta.parameters {
            let stored = scope.tensor(name, &parameter.size())?;
            *parameter = leaf(stored.to_kind(Kind::Float).copy(), device);
        }
        Ok(delta)
    }

    /// Δh for `h` (b, c, h, w), `temb` (b, e) and, where conditioned, `token` (1 or b, d).
    pub fn forward(&self, h: &Tensor, temb: &Tensor, token: Option<&Tensor>) -> Tensor {
        let p = |name: &str| &self.parameters[name];
        let time = temb.to_kind(Kind::Float).silu().linear(p("temb_proj.weight"), Some(p("temb_proj.bias")));
        let mut x = conv1x1(&h.to_kind(Kind::Float), p("conv1.weight"), p("conv1.bias"));
        x += time.unsqueeze(-1).unsqueeze(-1);
        x = x.group_norm(GROUPS, Some(p("norm2.weight")), Some(p("norm2.bias")), EPS, true);
        if self.conditioned {
            let token = token.expect("a conditioned delta is given its token");
            let film = token.to_kind(Kind::Float).linear(p("film.weight"), Some(p("film.bias")));
            let halves = film.unsqueeze(-1).unsqueeze(-1).chunk(2, 1);
            x = x * (1.0 + &halves[0]) + &halves[1];
        }
        conv1x1(&x.silu(), p("conv2.weight"), p("conv2.bias")).to_kind(h.kind())
    }

    /// The trainable tensors, sorted by name.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        self.parameters.iter().map(|(k, v)| (k.clone(), v.shallow_clone())).collect()
    }
}

fn conv1x1(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    x.conv2d(weight, Some(bias), [1, 1], [0, 0], [1, 1], 1)
}

fn leaf(tensor: Tensor, device: Device) -> Tensor {
    tensor.to_device(device).set_requires_grad(true)
}

/// The deltas of one run: one for each emotion, or a single one that all emotions share, conditioned on their tokens.
#[derive(Debug)]
pub struct DeltaSet {
    deltas: BTreeMap<String, Delta>,
    dimensions: Dimensions,
}

/// The name of the delta that all emotions share.
pub const SHARED: &str = "shared";

impl DeltaSet {
    /// Fresh deltas for `emotions`; conditioned on the token if `dimensions` has token features.
    pub fn new(dimensions: Dimensions, emotions: &[String], seed: u64, device: Device) -> Self {
        let deltas = names(dimensions, emotions)
            .into_iter()
            .map(|name| (name.clone(), Delta::new(dimensions, seed, &name, device)))
            .collect();
        Self { deltas, dimensions }
    }

    /// Reads what [`DeltaSet::save`] wrote; shapes and dtypes are checked against `dimensions`.
    pub fn load(path: &Path, dimensions: Dimensions, emotions: &[String], device: Device) -> Result<Self> {
        let weights = Weights::from_file(path, Placement::new(Device::Cpu, Kind::Float))?;
        let mut deltas = BTreeMap::new();
        for name in names(dimensions, emotions) {
            deltas.insert(name.clone(), Delta::load(&weights.root().sub(&name), dimensions, device)?);
        }
        weights.finish(|_| false)?;
        Ok(Self { deltas, dimensions })
    }

    /// Writes `<emotion>.conv1.weight` … with `metadata` in the file's header.
    pub fn save(&self, path: &Path, metadata: HashMap<String, String>) -> Result<()> {
        crate::weights::write_file(path, &self.named_parameters(), Some(metadata))
    }

    /// The delta that serves `emotion`.
    pub fn of(&self, emotion: &str) -> Result<&Delta> {
        self.deltas.get(SHARED).or_else(|| self.deltas.get(emotion)).ok_or_else(|| {
            let known: Vec<&str> = self.deltas.keys().map(String::as_str).collect();
            Error::invalid(format!("emotion {emotion}"), format!("this run was trained for {}", known.join(", ")))
        })
    }

    /// Whether Δh is conditioned on the emotion's token.
    pub fn conditioned(&self) -> bool {
        self.dimensions.token_features.is_some()
    }

    /// The trainable tensors as `<emotion>.<name>`, sorted.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        let of = |(name, delta): (&String, &Delta)| -> Vec<(String, Tensor)> {
            delta.named_parameters().into_iter().map(|(k, v)| (format!("{name}.{k}"), v)).collect()
        };
        self.deltas.iter().flat_map(of).collect()
    }
}

fn names(dimensions: Dimensions, emotions: &[String]) -> Vec<String> {
    match dimensions.token_features {
        Some(_) => vec![SHARED.to_string()],
        None => emotions.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimensions() -> Dimensions {
        Dimensions { channels: 64, temb_channels: 16, token_features: Some(8) }
    }

    fn randn(shape: &[i64]) -> Tensor {
        noise::normal(3, "test", 0, shape)
    }

    #[test]
    fn a_fresh_delta_is_exactly_zero() {
        let delta = Delta::new(dimensions(), 0, "awe", Device::Cpu);
        let out = delta.forward(&randn(&[2, 64, 4, 4]), &randn(&[2, 16]), Some(&randn(&[1, 8])));
        assert_eq!(out.abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn saving_and_loading_keeps_every_bit() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("h_delta.safetensors");
        let emotions = ["awe".to_string(), "fear".to_string()];
        let plain = Dimensions { token_features: None, ..dimensions() };
        let set = DeltaSet::new(plain, &emotions, 5, Device::Cpu);
        set.save(&path, HashMap::new())?;
        let read = DeltaSet::load(&path, plain, &emotions, Device::Cpu)?;
        assert_eq!(set.named_parameters(), read.named_parameters());
        assert!(read.of("anger").is_err());
        Ok(())
    }
}
