//! dataloader.
