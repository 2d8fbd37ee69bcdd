//! The shuffled-target control: each edit is asked for one of the emotions that were not wanted.

use emotions::Emotion;
use rand::Rng;

/// One of the other seven emotions, drawn from the seed and the source's index.
pub(crate) fn another_emotion(seed: u64, emotion: Emotion, place: u64) -> Emotion {
    let others: Vec<Emotion> = Emotion::ALL.into_iter().filter(|&e| e != emotion).collect();
    others[diffusion::noise::generator(seed, emotion.name(), place).random_range(0..others.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_targets_are_the_other_seven_alike_and_never_the_asked() {
        let emotion = Emotion::Sadness;
        let count = |drawn| (0..7000).filter(|&place| another_emotion(3, emotion, place) == drawn).count();
        assert_eq!(count(emotion), 0);
        for other in Emotion::ALL.into_iter().filter(|&e| e != emotion) {
            assert!((850..1150).contains(&count(other)), "{other}: {}", count(other));
        }
    }
}
