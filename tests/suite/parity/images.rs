//! Parity: images.
