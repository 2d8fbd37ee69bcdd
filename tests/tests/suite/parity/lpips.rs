//! Parity: lpips.
