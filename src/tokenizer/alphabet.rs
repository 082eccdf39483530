//! GPT-2's byte alphabet: vocabularies of byte-level BPE write each byte as one printable character.

/// Bytes that are written as the character of the same number.
fn is_itself(b: u8) -> bool {
    matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The alphabet in both directions.
pub(super) struct Alphabet {
    /// Byte + 1 of the characters below U+0144, 0 for none: the 68 bytes that are no printable character are U+0100 and up, in order.
    byte_of: [u16; 0x144],
}

impl Alphabet {
    pub fn new() -> Self {
        let mut byte_of = [0; 0x144];
        let mut next = 0x100;
        for b in 0..=255u8 {
            let c = if is_itself(b) {
                usize::from(b)
            } else {
                next += 1;
                next - 1
            };
            if let Some(slot) = byte_of.get_mut(c) {
                *slot = u16::from(b) + 1;
            }
        }
        Alphabet { byte_of }
    }

    /// Appends the bytes that `token` stands for; `false` (and nothing useful in `out`) where a character is not in the alphabet.
    pub fn decode(&self, token: &str, out: &mut Vec<u8>) -> bool {
        token.chars().all(|c| {
            let entry = self.byte_of.get(c as usize).copied().unwrap_or(0);
            match u8::try_from(entry.wrapping_sub(1)) {
                Ok(b) => {
                    out.push(b);
                    true
                }
                Err(_) => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_characters() {
        // As published with GPT-2: Ġ is the space, Ċ the line feed, ĉ the tab; é is the two bytes Ã ©.
        let mut out = Vec::new();
        assert!(Alphabet::new().decode("Ġa!ĊĉÃ©ĀŃ", &mut out));
        assert_eq!(out, b" a!\n\t\xc3\xa9\x00\xad");
        for outside in ["▁", "a b", "\u{144}", "日"] {
            assert!(!Alphabet::new().decode(outside, &mut Vec::new()), "{outside:?}");
        }
    }
}
