//! The feature stacks under LPIPS, tensors named as in torchvision: `features.N.weight`.

use tch::Tensor;

use crate::error::Result;
use crate::networks::layers::Conv2d;
use crate::weights::Scope;

/// AlexNet's convolutions: Krizhevsky 2014, *One weird trick for parallelizing convolutional neural networks*.
#[derive(Debug)]
pub struct AlexFeatures {
    convs: [Conv2d; 5],
}

impl AlexFeatures {
    /// Channels after each convolution.
    pub const CHANNELS: [i64; 5] = [64, 192, 384, 256, 256];

    /// Reads `features.{0,3,6,8,10}` below `scope`.
    pub fn load(scope: &Scope<'_>) -> Result<Self> {
        let conv = |place: i64, inputs, outputs, kernel, stride, padding| {
            Conv2d::load(&scope.sub("features").sub(place), inputs, outputs, kernel, stride, padding)
        };
        let convs = [
            conv(0, 3, 64, 11, 4, 2)?,
            conv(3, 64, 192, 5, 1, 2)?,
            conv(6, 192, 384, 3, 1, 1)?,
            conv(8, 384, 256, 3, 1, 1)?,
            conv(10, 256, 256, 3, 1, 1)?,
        ];
        Ok(Self { convs })
    }

    /// The five rectified feature maps of images already shifted and scaled: (b, 3, h, w) → 5 × (b, c, h', w').
    pub fn forward(&self, x: &Tensor) -> Vec<Tensor> {
        let mut maps: Vec<Tensor> = Vec::with_capacity(self.convs.len());
        for (i, conv) in self.convs.iter().enumerate() {
            let input = maps.last().unwrap_or(x);
            let pooled = matches!(i, 1 | 2).then(|| input.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false));
            maps.push(conv.forward(pooled.as_ref().unwrap_or(input)).relu());
        }
        maps
    }
}

/// VGG-16's convolutions: Simonyan and Zisserman 2015, *Very Deep Convolutional Networks*, configuration D.
#[derive(Debug)]
pub struct VggFeatures {
    stages: Vec<Vec<Conv2d>>,
}

impl VggFeatures {
    /// Channels after each stage.
    pub const CHANNELS: [i64; 5] = [64, 128, 256, 512, 512];
    /// Where each stage's convolutions stand; a pooling layer stands between stages.
    const PLACES: [&'static [i64]; 5] = [&[0, 2], &[5, 7], &[10, 12, 14], &[17, 19, 21], &[24, 26, 28]];

    /// Reads `features.{0,2,5,…,28}` below `scope`.
    pub fn load(scope: &Scope<'_>) -> Result<Self> {
        let mut inputs = 3;
        let mut stages = Vec::with_capacity(Self::CHANNELS.len());
        for (places, outputs) in Self::PLACES.into_iter().zip(Self::CHANNELS) {
            let mut stage = Vec::with_capacity(places.len());
            for place in places {
                stage.push(Conv2d::load(&scope.sub("features").sub(place), inputs, outputs, 3, 1, 1)?);
                inputs = outputs;
            }
            stages.push(stage);
        }
        Ok(Self { stages })
    }

    /// The last rectified feature map of each stage: (b, 3, h, w) → 5 × (b, c, h', w').
    pub fn forward(&self, x: &Tensor) -> Vec<Tensor> {
        let mut maps: Vec<Tensor> = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            let input = match maps.last() {
                Some(map) => map.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false),
                None => x.shallow_clone(),
            };
            maps.push(stage.iter().fold(input, |x, conv| conv.forward(&x).relu()));
        }
        maps
    }
}
