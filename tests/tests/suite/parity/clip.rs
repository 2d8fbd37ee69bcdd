//! Parity: clip.
