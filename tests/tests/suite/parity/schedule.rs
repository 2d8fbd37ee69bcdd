//! Parity: schedule.
