//! Image networks of torchvision's layout that judge or describe, frozen.

pub mod conv_norm;
pub mod inception;
pub mod resnet;
