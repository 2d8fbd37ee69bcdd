//! Prints the random draws of a run as JSON, so that another implementation can follow it step by step.
//!
//! ```text
//! cargo run --release --workspace --example draws -- below  --seed 0 --stream timestep/awe --position 7 --bound 1000
//! cargo run --release --workspace --example draws -- normal --seed 0 --stream noise/awe --position 7 --shape 4,64,64
//! ```
//!
//! Streams of the trainer: order/…, rung/…, flip/…, posterior/…, noise/…, timestep/…, prompt/… and the emotion.

use clap::{Args, Parser};
use diffusion::noise;

/// Print what a stream of random draws holds at a position.
#[derive(Parser)]
enum Draw {
    /// A whole number below a bound
    Below {
        #[command(flatten)]
        place: Place,
        /// The bound
        #[arg(long)]
        bound: u64,
    },
    /// Standard normal numbers, row-major
    Normal {
        #[command(flatten)]
        place: Place,
        /// The tensor's shape, such as 4,64,64
        #[arg(long, value_delimiter = ',', required = true)]
        shape: Vec<i64>,
    },
}

#[derive(Args)]
struct Place {
    /// The run's seed
    #[arg(long)]
    seed: u64,
    /// The stream's name
    #[arg(long)]
    stream: String,
    /// The position in the stream
    #[arg(long)]
    position: u64,
}

fn main() {
    match Draw::parse() {
        Draw::Below { place, bound } => println!("{}", noise::below(place.seed, &place.stream, place.position, bound)),
        Draw::Normal { place, shape } => {
            let numbers = noise::normal(place.seed, &place.stream, place.position, &shape).flatten(0, -1);
            println!("{:?}", Vec::<f32>::try_from(numbers).expect("invariant: draws are f32"));
        }
    }
}
