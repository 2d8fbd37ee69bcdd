//! tiny_vae
