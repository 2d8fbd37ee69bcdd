//! How a step scales past this machine: its counted work against the time of a ring all-reduce over a stated link.
//!
//! The α–β model (Thakur, Rabenseifner and Gropp 2005, *Optimization of Collective Communication Operations in MPICH*):
//! a message of n bytes takes α + n·β. A ring of p processes sums S bytes in 2(p − 1) messages of S/p bytes: T = 2(p −
//! 1)·α + 2·(p − 1)/p·S·β. A ring is as fast as its slowest link.

use std::str::FromStr;

/// How many all-reduces a step makes: the denoising term's gradients go while the rest is computed, then what is left.
const ALL_REDUCES: f64 = 2.0;

/// What connects neighbours in the ring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Bytes a second, one way.
    pub bandwidth: f64,
    /// α: seconds before the first byte of a message.
    pub latency: f64,
}

impl FromStr for Link {
    type Err = String;

    /// `25GB/s,5us`: the bandwidth, and the latency of a message.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no link; write its bandwidth and latency, such as 25GB/s,5us or 400Gb/s,10us");
        let (bandwidth, latency) = text.split_once(',').ok_or_else(wrong)?;
        // The longest unit that fits comes first: GB and Gb differ by eight.
        let rates = [("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3), ("Gb/s", 1e9 / 8.0), ("Mb/s", 1e6 / 8.0)];
        let times = [("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)];
        let link = Self {
            bandwidth: quantity(bandwidth, &rates).ok_or_else(wrong)?,
            latency: quantity(latency, &times).ok_or_else(wrong)?,
        };
        match link.bandwidth > 0.0 && link.latency >= 0.0 && link.bandwidth.is_finite() && link.latency.is_finite() {
            true => Ok(link),
            false => Err(wrong()),
        }
    }
}

fn quantity(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (number, unit) = units.iter().find_map(|(name, unit)| Some((text.trim().strip_suffix(name)?, unit)))?;
    Some(number.trim().parse::<f64>().ok()? * unit)
}

impl Link {
    /// Seconds of a ring all-reduce of `bytes` by `processes`.
    pub fn all_reduce_secs(&self, bytes: f64, processes: usize) -> f64 {
        let hops = processes.saturating_sub(1) as f64;
        2.0 * hops * self.latency + 2.0 * hops / processes.max(1) as f64 * bytes / self.bandwidth
    }
}

/// A step of several processes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// How many.
    pub processes: usize,
    /// Seconds in all-reduces, if none of them is hidden behind the computation.
    pub link_secs: f64,
    /// Seconds of the step.
    pub step_secs: f64,
    /// A process's images a second over those of a process alone.
    pub efficiency: f64,
}

/// The step of `processes` that each compute for `own_secs` and sum `bytes` of gradients over `link`.
pub fn scaled(processes: usize, own_secs: f64, bytes: u64, link: Link) -> Scaled {
    let latency_alone = link.all_reduce_secs(0.0, processes);
    let link_secs = link.all_reduce_secs(bytes as f64, processes) + (ALL_REDUCES - 1.0) * latency_alone;
    let step_secs = own_secs + link_secs;
    Scaled { processes, link_secs, step_secs, efficiency: own_secs / step_secs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_in_bits_and_bytes() {
        let read = |text: &str| text.parse::<Link>();
        assert_eq!(read("25GB/s,5us"), Ok(Link { bandwidth: 25e9, latency: 5.0 * 1e-6 }));
        assert_eq!(read("200 Gb/s, 2 ms"), Ok(Link { bandwidth: 25e9, latency: 2.0 * 1e-3 }));
        for wrong in ["", "25GB/s", "25,5us", "0GB/s,5us", "-1GB/s,5us", "25GB/s,x", "25GB,5us", "infGB/s,1us"] {
            assert!(read(wrong).expect_err(wrong).contains("25GB/s,5us"), "{wrong}");
        }
    }

    /// Two processes send each half twice; many send nearly everything twice.
    #[test]
    fn a_ring_sends_each_byte_twice_at_most() {
        let link = Link { bandwidth: 1e9, latency: 0.0 };
        assert_eq!(link.all_reduce_secs(1e9, 1), 0.0);
        assert_eq!(link.all_reduce_secs(1e9, 2), 1.0);
        assert!((1.99..2.0).contains(&link.all_reduce_secs(1e9, 1024)));
        let slow = Link { bandwidth: f64::MAX, latency: 1e-3 };
        assert!((slow.all_reduce_secs(8.0, 64) - 0.126).abs() < 1e-9);
    }

    #[test]
    fn efficiency_falls_with_processes_and_rises_with_work() {
        let link = Link { bandwidth: 1e9, latency: 1e-5 };
        let of = |processes, secs| scaled(processes, secs, 10_000_000, link).efficiency;
        assert_eq!(of(1, 0.5), 1.0);
        assert!(of(2, 0.5) > of(8, 0.5) && of(8, 0.5) > of(64, 0.5));
        assert!(of(64, 5.0) > of(64, 0.5));
    }
}
