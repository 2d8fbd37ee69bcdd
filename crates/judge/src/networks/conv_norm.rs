//! A convolution with the batch normalisation that follows it (Ioffe & Szegedy 2015), merged into one convolution: in
//! a frozen network both are linear.

use diffusion::weights::Scope;
use tch::{Kind, Tensor};

use crate::error::Result;

/// The convolution's shape, stride and padding.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Channels in and out.
    pub channels: (i64, i64),
    /// Height and width of the window.
    pub kernel: (i64, i64),
    /// Pixels from one window to the next.
    pub stride: i64,
    /// Zeros on each side.
    pub padding: (i64, i64),
}

/// The folded convolution.
#[derive(Debug)]
pub struct ConvNorm {
    weight: Tensor, // (out, in, kh, kw)
    bias: Tensor,   // (out)
    shape: Shape,
}

impl ConvNorm {
    /// Reads `weight` below `conv`, and `weight`, `bias`, `running_mean` and `running_var` below `norm`.
    pub fn load(conv: &Scope<'_>, norm: &Scope<'_>, shape: Shape, eps: f64) -> Result<Self> {
        let ((inputs, outputs), (height, width)) = (shape.channels, shape.kernel);
        let weight = conv.tensor("weight", &[outputs, inputs, height, width])?;
        let of_norm = |name: &str| Ok::<_, crate::Error>(norm.tensor(name, &[outputs])?.to_kind(Kind::Double));
        let scale = of_norm("weight")? / (of_norm("running_var")? + eps).sqrt();
        let bias = of_norm("bias")? - of_norm("running_mean")? * &scale;
        let folded = weight.to_kind(Kind::Double) * scale.view([outputs, 1, 1, 1]);
        Ok(Self { weight: folded.to_kind(weight.kind()), bias: bias.to_kind(weight.kind()), shape })
    }

    /// (b, in, h, w) → (b, out, h', w')
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let Shape { stride, padding, .. } = self.shape;
        x.conv2d(&self.weight, Some(&self.bias), [stride; 2], [padding.0, padding.1], [1, 1], 1)
    }

    /// The same, rectified.
    pub fn relu(&self, x: &Tensor) -> Tensor {
        self.forward(x).relu()
    }
}
