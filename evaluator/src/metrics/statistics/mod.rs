//! What is concluded from many values: intervals, tests, agreement, calibration.

pub mod agreement;
pub mod bootstrap;
pub mod calibration;
pub mod confusion;
pub mod holm;
pub mod paired;
