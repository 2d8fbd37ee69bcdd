//! One rank's heartbeat, and what two readings of all of them show.

use std::fmt;

/// What a rank writes at each pace.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Beat {
    /// Grows by one at each beat.
    pub count: u64,
    /// The number of the last operation that the rank entered; 0 is none.
    pub entered: u64,
    pub state: State,
    /// That operation as text.
    pub operation: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Running,
    /// A collective of its own has failed: it is a witness and not the cause.
    Failed,
    /// It has dropped the group on purpose.
    Left,
}

impl fmt::Display for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Running => "running",
            State::Failed => "failed",
            State::Left => "left",
        };
        write!(f, "{} {} {state} {}", self.count, self.entered, self.operation)
    }
}

impl Beat {
    pub fn parse(text: &str) -> Beat {
        let mut words = text.splitn(4, ' ');
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let (count, entered) = (number(), number());
        let state = match words.next() {
            Some("failed") => State::Failed,
            Some("left") => State::Left,
            _ => State::Running,
        };
        Beat { count, entered, state, operation: words.next().unwrap_or_default().into() }
    }

    fn last(&self) -> String {
        match self.entered {
            0 => "before its first operation".into(),
            number => format!("last seen in operation {number}, {}", self.operation),
        }
    }
}

/// Names the ranks that kept rank `own` from completing operation `number`: the silent, the departed and the late; if
/// there are none, those that failed first.
pub fn verdict(own: usize, number: u64, before: &[Beat], after: &[Beat]) -> Option<String> {
    let peers = || (0..after.len()).filter(|&rank| rank != own).map(|rank| (rank, &before[rank], &after[rank]));
    let culprits: Vec<String> = peers()
        .filter_map(|(rank, before, after)| match after.state {
            State::Left if after.entered < number => Some(format!("rank {rank} has left ({})", after.last())),
            State::Running if after.count == before.count => {
                Some(format!("rank {rank} has stopped answering, dead or frozen ({})", after.last()))
            }
            State::Running if after.entered < number => {
                Some(format!("rank {rank} is alive but did not come ({})", after.last()))
            }
            _ => None,
        })
        .collect();
    let failed = peers().filter(|(_, _, after)| after.state == State::Failed);
    let witnesses = || failed.map(|(rank, _, after)| format!("rank {rank} failed too ({})", after.last())).collect();
    let named: Vec<String> = if culprits.is_empty() { witnesses() } else { culprits };
    (!named.is_empty()).then(|| named.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(count: u64, entered: u64, state: State) -> Beat {
        Beat { count, entered, state, operation: "barrier".into() }
    }

    #[test]
    fn a_beat_survives_its_text() {
        let beat = Beat { count: 7, entered: 3, state: State::Left, operation: "all_reduce(sum) of 4.2 MB".into() };
        assert_eq!(Beat::parse(&beat.to_string()), beat);
        assert_eq!(Beat::parse(""), Beat::default());
    }

    #[test]
    fn culprits_come_before_witnesses() {
        use State::{Failed, Left, Running};
        let cases = [
            // (state of rank 1 before and after, state of rank 2 before and after, words in the finding)
            ((5, 4, Running), (5, 4, Running), (5, 4, Running), (9, 4, Running), "rank 1 has stopped answering"),
            ((5, 3, Running), (9, 3, Running), (5, 4, Running), (9, 4, Running), "rank 1 is alive but did not come"),
            ((5, 3, Left), (5, 3, Left), (5, 4, Failed), (9, 4, Failed), "rank 1 has left"),
            ((5, 4, Failed), (5, 4, Failed), (5, 4, Running), (9, 4, Running), "rank 1 failed too"),
        ];
        for (one, one_later, two, two_later, words) in cases {
            let make = |(count, entered, state)| beat(count, entered, state);
            let before = [beat(1, 4, Failed), make(one), make(two)];
            let after = [beat(5, 4, Failed), make(one_later), make(two_later)];
            let found = verdict(0, 4, &before, &after).expect("somebody is to blame");
            assert!(found.starts_with(words) && !found.contains("rank 2"), "{found}");
        }
        let fine = [beat(1, 4, Failed), beat(1, 4, Running)];
        let later = [beat(5, 4, Failed), beat(5, 4, Running)];
        assert_eq!(verdict(0, 4, &fine, &later), None);
    }
}
