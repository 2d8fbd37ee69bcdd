//! Names of sessions and photos that nobody guesses: 128 bits from a cryptographic generator.

use std::fmt;
use std::str::FromStr;

/// 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(u128);

impl Id {
    /// A new one; rand's thread generator is ChaCha, seeded by the system.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match digits {
            true => u128::from_str_radix(text, 16).map(Self).map_err(|_| ()),
            false => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_in_one_way_only() {
        let id = Id::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(id, Id::random());
        assert_eq!(format!("{:032x}", 7).parse(), Ok(Id(7)));
        for text in ["", "7", &format!("+{:031x}", 7), &format!("{:032X}", 10), &"0".repeat(33)] {
            assert_eq!(text.parse::<Id>(), Err(()), "{text}");
        }
    }
}
