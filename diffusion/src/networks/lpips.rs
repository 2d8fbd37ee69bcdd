//! lpips
