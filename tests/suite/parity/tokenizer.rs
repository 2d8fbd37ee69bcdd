//! Parity: tokenizer.
