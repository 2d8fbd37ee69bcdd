//! A small autoencoder distilled from Stable Diffusion's: Ollin Boer Bohan's TAESD; diffusers' AutoencoderTiny.
//!
//! Its latents are the UNet's own: TAESD's scaling factor is 1. Shapes: b batch, c latent channels, H × W the image,
//! h × w the latents.

mod config;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::networks::layers::Conv2d;
use crate::weights::{Placement, Scope, Weights, DIFFUSERS_STEM};

pub use config::Config;

/// A frozen AutoencoderTiny.
#[derive(Debug)]
pub struct AutoencoderTiny {
    config: Config,
    kind: Kind,
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
}

impl AutoencoderTiny {
    /// Reads `folder`/config.json and `folder`/diffusion_pytorch_model.safetensors.
    pub fn load(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_with(folder, Placement::new(device, kind))
    }

    /// As [`AutoencoderTiny::load`], its weights placed as `placement` says.
    pub fn load_with(folder: &Path, placement: Placement) -> Result<Self> {
        let config = Config::read(&folder.join("config.json"))?;
        let weights = Weights::from_folder(folder, DIFFUSERS_STEM, placement)?;
        let root = weights.root();
        let encoder = encoder(&root.sub("encoder.layers"), &config)?;
        let decoder = decoder(&root.sub("decoder.layers"), &config)?;
        weights.finish(|_| false)?;
        Ok(Self { config, kind: placement.kind, encoder, decoder })
    }

    /// Latents of images in [-1, 1], (b, 3, H, W) → (b, c, h, w); no posterior, as in diffusers.
    pub fn encode(&self, images: &Tensor) -> Tensor {
        run(&self.encoder, (images + 1.0) / 2.0)
    }

    /// Images, about in [-1, 1], of latents that are first squeezed into (-3, 3): (b, c, h, w) → (b, 3, H, W).
    pub fn decode(&self, latents: &Tensor) -> Tensor {
        run(&self.decoder, (latents / 3.0).tanh() * 3.0) * 2.0 - 1.0
    }

    /// What [`encode`](Self::encode)'s latents are multiplied by before the UNet sees them: 1 for TAESD.
    pub fn scaling_factor(&self) -> f64 {
        self.config.scaling_factor
    }

    /// Pixels of the image per latent pixel, along one side: 8 for TAESD.
    pub fn downscale(&self) -> i64 {
        self.config.downscale()
    }

    /// The weights' element type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> i64 {
        self.config.latent_channels
    }
}

fn encoder(scope: &Scope<'_>, config: &Config) -> Result<Vec<Layer>> {
    let width = config.encoder_width;
    let mut layers = Sequence::new(scope);
    for (i, &blocks) in config.num_encoder_blocks.iter().enumerate() {
        if i == 0 {
            layers.conv(config.in_channels, width)?;
        } else {
            layers.downsample(width)?;
        }
        layers.blocks(width, blocks)?;
    }
    layers.conv(width, config.latent_channels)?;
    Ok(layers.layers)
}

fn decoder(scope: &Scope<'_>, config: &Config) -> Result<Vec<Layer>> {
    let (width, last) = (config.decoder_width, config.num_decoder_blocks.len() - 1);
    let mut layers = Sequence::new(scope);
    layers.conv(config.latent_channels, width)?;
    layers.push(Layer::Relu);
    for (i, &blocks) in config.num_decoder_blocks.iter().enumerate() {
        layers.blocks(width, blocks)?;
        if i < last {
            layers.push(Layer::Upsample(config.upsampling_scaling_factor));
            layers.conv_without_bias(width)?;
        }
    }
    layers.conv(width, config.out_channels)?;
    Ok(layers.layers)
}

fn run(layers: &[Layer], x: Tensor) -> Tensor {
    layers.iter().fold(x, |x, layer| layer.forward(&x))
}

/// One entry of a PyTorch Sequential.
#[derive(Debug)]
enum Layer {
    Conv(Conv2d),
    Block(Block),
    Upsample(i64),
    Relu,
}

impl Layer {
    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Layer::Conv(conv) => conv.forward(x),
            Layer::Block(block) => block.forward(x),
            Layer::Upsample(factor) => {
                let (_, _, h, w) = x.size4().expect("feature maps are (b, c, h, w)");
                x.upsample_nearest2d([h * factor, w * factor], None, None)
            }
            Layer::Relu => x.relu(),
        }
    }
}

/// Three convolutions around a skip connection, then a ReLU.
#[derive(Debug)]
struct Block([Conv2d; 3]);

impl Block {
    fn load(scope: &Scope<'_>, width: i64) -> Result<Self> {
        let conv = |i: i64| Conv2d::load(&scope.sub("conv").sub(i), width, width, 3, 1, 1);
        Ok(Self([conv(0)?, conv(2)?, conv(4)?]))
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let [first, second, third] = &self.0;
        let h = second.forward(&first.forward(x).relu()).relu();
        (third.forward(&h) + x).relu()
    }
}

/// A Sequential while it is read: tensors are named by their place in it.
struct Sequence<'a, 'w> {
    scope: &'a Scope<'w>,
    layers: Vec<Layer>,
}

impl<'a, 'w> Sequence<'a, 'w> {
    fn new(scope: &'a Scope<'w>) -> Self {
        Self { scope, layers: Vec::new() }
    }

    fn push(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    fn here(&self) -> Scope<'w> {
        self.scope.sub(self.layers.len())
    }

    fn conv(&mut self, inputs: i64, outputs: i64) -> Result<()> {
        let conv = Conv2d::load(&self.here(), inputs, outputs, 3, 1, 1)?;
        self.push(Layer::Conv(conv));
        Ok(())
    }

    fn conv_without_bias(&mut self, width: i64) -> Result<()> {
        let conv = Conv2d::load_without_bias(&self.here(), width, width, 3, 1, 1)?;
        self.push(Layer::Conv(conv));
        Ok(())
    }

    fn downsample(&mut self, width: i64) -> Result<()> {
        let conv = Conv2d::load_without_bias(&self.here(), width, width, 3, 2, 1)?;
        self.push(Layer::Conv(conv));
        Ok(())
    }

    fn blocks(&mut self, width: i64, count: i64) -> Result<()> {
        for _ in 0..count {
            let block = Block::load(&self.here(), width)?;
            self.push(Layer::Block(block));
        }
        Ok(())
    }
}
