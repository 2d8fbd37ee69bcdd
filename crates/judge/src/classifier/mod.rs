//! The emotion classifiers that score edits: Mikels' eight categories, one file for each network.
//!
//! Each is a folder with config.json, whose `architecture` names the network, and model.safetensors. Shapes: b batch,
//! (h, w) pixels, p CLIP's projection.

pub mod alexnet;
pub mod clip_mlp;
pub mod head;
pub mod labels;
pub mod resnet;

use std::path::Path;
use std::rc::Rc;

use diffusion::json;
use diffusion::weights::{hash, Placement, Weights};
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};

use crate::embedder::Embedder;
use crate::error::{Error, Result};
use alexnet::AlexNetMlp;
use clip_mlp::ClipMlp;
use labels::Labels;
use resnet::ResNetClassifier;

/// The architectures that can be read.
const ARCHITECTURES: [&str; 4] = ["alexnet_features_mlp", "clip_mlp", "resnet18", "resnet50"];

#[derive(Debug)]
enum Network {
    AlexNet(Box<AlexNetMlp>),
    Clip(ClipMlp, Rc<Embedder>),
    ResNet(Box<ResNetClassifier>),
}

/// A classifier over [`Emotion::ALL`](emotions::Emotion::ALL), and what a picture may show instead.
#[derive(Debug)]
pub struct Classifier {
    network: Network,
    architecture: String,
    labels: Labels,
    order: Tensor, // (classes): indices into the network's outputs, the emotions' first
    temperature: f64,
    name: String,
    hash: String,
}

/// What every config.json says.
struct Common {
    labels: Labels,
    temperature: f64,
}

/// The name of the CLIP that the classifier in `folder` reads; none for a classifier of pixels.
pub fn clip_of(folder: &Path) -> Result<Option<String>> {
    let path = folder.join("config.json");
    Ok(match architecture(&path)?.as_str() {
        "clip_mlp" => Some(parse::<clip_mlp::Config>(&path)?.clip.name),
        _ => None,
    })
}

impl Classifier {
    /// Reads config.json and model.safetensors; refuses a classifier that took part in a loss.
    ///
    /// `clip` returns the CLIP that a classifier over embeddings reads; other classifiers do not call it.
    pub fn load(folder: &Path, device: Device, clip: impl FnOnce() -> Result<Rc<Embedder>>) -> Result<Self> {
        Self::load_with(folder, Placement::new(device, Kind::Float), clip)
    }

    /// As [`Classifier::load`], its weights placed as `placement` says, which must be f32.
    pub fn load_with(folder: &Path, placement: Placement, clip: impl FnOnce() -> Result<Rc<Embedder>>) -> Result<Self> {
        let path = folder.join("config.json");
        let architecture = architecture(&path)?;
        let weights = Weights::from_folder(folder, "model", placement)?;
        let (network, common) = match architecture.as_str() {
            "alexnet_features_mlp" => {
                let config: alexnet::Config = parse(&path)?;
                let common = Common::check(&path, &config.labels, config.temperature, config.takes_part_in_losses)?;
                (Network::AlexNet(Box::new(AlexNetMlp::load(&path, &config, &common.labels, &weights)?)), common)
            }
            "clip_mlp" => {
                let config: clip_mlp::Config = parse(&path)?;
                let common = Common::check(&path, &config.labels, config.temperature, config.takes_part_in_losses)?;
                let clip = clip()?;
                let network =
                    ClipMlp::load(&path, &config, &common.labels, &weights, clip.projection_dim(), clip.hash())?;
                (Network::Clip(network, clip), common)
            }
            _ => {
                let config: resnet::Config = parse(&path)?;
                let common = Common::check(&path, &config.labels, config.temperature, config.takes_part_in_losses)?;
                (Network::ResNet(Box::new(ResNetClassifier::load(&path, &config, &common.labels, &weights)?)), common)
            }
        };
        weights.finish(|_| false)?;
        Ok(Self {
            network,
            architecture,
            order: common.labels.order().to_device(placement.device),
            labels: common.labels,
            temperature: common.temperature,
            name: folder.file_name().map_or_else(|| "classifier".into(), |n| n.to_string_lossy().into_owned()),
            hash: hash(folder, "model")?,
        })
    }

    /// The network's kind, as config.json names it.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The folder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// blake3 of the weights file.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The CLIP whose embeddings it takes; none if it takes images.
    pub fn embedder(&self) -> Option<&Rc<Embedder>> {
        match &self.network {
            Network::AlexNet(_) | Network::ResNet(_) => None,
            Network::Clip(_, clip) => Some(clip),
        }
    }

    /// The classes beside the emotions, in the order of the last columns of its output; most judges have none.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        self.labels.others()
    }

    /// Softmax probabilities (b, 8 + others) over [`Emotion::ALL`](emotions::Emotion::ALL) and then
    /// [`others`](Self::others), of images (b, 3, h, w) in [−1, 1], or, where there is an
    /// [`embedder`](Self::embedder), of its embeddings (b, p).
    pub fn probabilities(&self, input: &Tensor) -> Tensor {
        self.logits(input).softmax(-1, Kind::Float)
    }

    /// As [`Classifier::probabilities`], before the softmax.
    pub fn logits(&self, input: &Tensor) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let logits = match &self.network {
            Network::AlexNet(network) => network.forward(input).1,
            Network::Clip(network, _) => network.forward(input),
            Network::ResNet(network) => network.forward(input).1,
        };
        logits.index_select(1, &self.order) / self.temperature
    }

    /// Where images (b, 3, h, w) in [−1, 1] show their most probable class: Selvaraju et al., *Grad-CAM* (2017), eq.
    /// 2, on the last feature map (b, y, x). None for a network without a feature map.
    pub fn saliency(&self, images: &Tensor) -> Option<Tensor> {
        tch::with_grad(|| {
            let images = images.detach().set_requires_grad(true);
            let (map, logits) = match &self.network {
                Network::AlexNet(network) => network.forward(&images),
                Network::ResNet(network) => network.forward(&images),
                Network::Clip(..) => return None,
            };
            let top = logits.amax([1i64].as_slice(), false).sum(Kind::Float);
            let gradient = Tensor::run_backward(&[&top], &[&map], false, false).remove(0); // (b, c, y, x)
            let weights = gradient.mean_dim([2i64, 3].as_slice(), true, Kind::Float);
            Some((weights * map).sum_dim_intlist([1i64].as_slice(), false, Kind::Float).relu().detach())
        })
    }
}

impl Common {
    fn check(path: &Path, labels: &[String], temperature: f64, takes_part_in_losses: bool) -> Result<Self> {
        if takes_part_in_losses {
            return Err(Error::InLoss(path.to_path_buf()));
        }
        if !(temperature.is_finite() && temperature > 0.0) {
            return unsupported(path, "temperature", format!("{temperature}; must be above 0"));
        }
        Ok(Self { labels: Labels::new(path, labels)?, temperature })
    }
}

fn architecture(path: &Path) -> Result<String> {
    let json = json::read(path)?;
    let found = json.get("architecture").and_then(|a| a.as_str()).unwrap_or("none").to_string();
    if ARCHITECTURES.contains(&found.as_str()) {
        return Ok(found);
    }
    unsupported(path, "architecture", format!("{found}; supported: {}", ARCHITECTURES.join(", ")))
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let invalid = |source| diffusion::Error::Json { path: path.to_path_buf(), source };
    Ok(serde_json::from_value(json::read(path)?).map_err(invalid)?)
}

/// The widths must lead from the embedding to the classes.
fn check_head(path: &Path, widths: &[i64], embedding: i64, classes: i64) -> Result<()> {
    if widths.len() < 2 || widths.first() != Some(&embedding) || widths.last() != Some(&classes) {
        return unsupported(path, "head", format!("{widths:?}; must lead from {embedding} to {classes}"));
    }
    Ok(())
}

fn unsupported<T>(path: &Path, key: &str, message: String) -> Result<T> {
    Err(Error::Model(diffusion::Error::Unsupported { path: path.to_path_buf(), key: key.into(), message }))
}

fn one() -> f64 {
    1.0
}
