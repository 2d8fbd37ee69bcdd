//! Metrics of whole sets of pictures, and the sums that they need.

pub mod diversity;
pub mod fid;
pub mod kld;
pub mod moments;
pub mod population;
pub mod seen;
