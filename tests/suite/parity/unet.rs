//! Parity: unet.
