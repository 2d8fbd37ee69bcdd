//! Parity: vae.
