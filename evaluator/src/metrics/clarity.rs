//! Sem-C, semantic clarity: Yang et al., *EmoGen: Emotional Image Content Generation with Text-to-Image Diffusion
//! Models* (CVPR 2024), section 4.1, as their code computes it.
//!
//! For each edit, the larger of two certainties: of a scene classifier (theirs: ResNet-50 on Places365) and of an
//! object classifier (theirs: torchvision's ResNet-50 on ImageNet). A certainty is the largest softmax probability.

use std::path::Path;

use diffusion::weights::{Placement, Weights};
use judge::networks::resnet::{Depth, ResNet, TORCHVISION_WIDTH};
use tch::{no_grad_guard, Device, Kind, Tensor};

use super::{numbers, About, Better, Family, Metric, Pair};
use crate::error::Result;

/// torchvision's evaluation transform: the shorter side, then the centre, then ImageNet's mean and deviation.
const SHORTER: i64 = 256;
const CENTRE: i64 = 224;
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// How clearly an edit shows a scene or an object.
#[derive(Debug)]
pub struct Clarity {
    scenes: ResNet,
    objects: ResNet,
    mean: Tensor, // (1, 3, 1, 1)
    std: Tensor,  // (1, 3, 1, 1)
}

impl Clarity {
    /// Reads two ResNet-50 in torchvision's layout, safetensors, with any number of classes.
    pub fn load(scenes: &Path, objects: &Path, device: Device) -> Result<Self> {
        let read = |path: &Path| {
            let weights = Weights::from_file(path, Placement::new(device, Kind::Float))?;
            let root = weights.root();
            let classes = root.sub("fc").tensor_of_any_shape("bias")?.size()[0];
            let network = ResNet::load(&root, Depth::Fifty, TORCHVISION_WIDTH, classes)?;
            weights.finish(|_| false)?;
            Ok::<_, crate::Error>(network)
        };
        let per_channel = |v: [f32; 3]| Tensor::from_slice(&v).view([1, 3, 1, 1]).to_device(device);
        Ok(Self { scenes: read(scenes)?, objects: read(objects)?, mean: per_channel(MEAN), std: per_channel(STD) })
    }

    /// One certainty for each image of (b, 3, h, w) in [0, 1].
    pub fn certainty(&self, images: &Tensor) -> Vec<f64> {
        let _no_grad = no_grad_guard();
        let (height, width) = (images.size()[2], images.size()[3]);
        let shorter = height.min(width);
        let scaled = [height * SHORTER / shorter, width * SHORTER / shorter];
        let resized = images.internal_upsample_bilinear2d_aa(scaled, false, None, None);
        let margin = |side: i64| (side - CENTRE + 1) / 2;
        let centre = resized.narrow(2, margin(scaled[0]), CENTRE).narrow(3, margin(scaled[1]), CENTRE);
        let x = (centre - &self.mean) / &self.std;
        let most = |network: &ResNet| {
            network.classify(&network.features(&x)).softmax(-1, Kind::Float).amax([1i64].as_slice(), false)
        };
        numbers(&most(&self.scenes).maximum(&most(&self.objects)))
    }
}

impl Metric for Clarity {
    fn about(&self) -> About {
        About {
            key: "sem_c",
            title: "Sem-C",
            definition: "The larger of a scene and an object classifier's largest softmax probability for the edit \
                         (EmoGen, section 4.1), ResNet-50 both. Compare with the row without edits.",
            better: Better::Higher,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::Further,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        self.certainty(&pair.edit.images)
    }
}
