//! Frozen image networks in torchvision's layout, which judge or describe pictures.

pub mod conv_norm;
pub mod inception;
pub mod resnet;
