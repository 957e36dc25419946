//! Damage of the kinds that break parsers.

/// SplitMix64: the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that depend on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 up to but not including `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }
}

/// Integers at which lengths, offsets and signs go wrong.
const INTEGERS: [u64; 12] =
    [0, 1, 8, 31, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, 1 << 62, i64::MAX as u64, u64::MAX];

/// Damages `bytes` in one place: an integer, a bit, a byte, a piece removed, moved or cut off, or one of `words` put in.
pub fn mutate(bytes: &mut Vec<u8>, words: &[&str], random: &mut Random) {
    if bytes.is_empty() {
        return bytes.push(random.bits() as u8);
    }
    let at = place(bytes.len(), random);
    let end = (at + random.below(16)).min(bytes.len());
    match random.below(if words.is_empty() { 6 } else { 9 }) {
        0 => bytes[at] = random.bits() as u8,
        1 => bytes[at] ^= 1 << random.below(8),
        2 => {
            let value = INTEGERS[random.below(INTEGERS.len())].to_le_bytes();
            let width = [4, 8][random.below(2)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&value[..width]);
        }
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        5 if random.below(8) == 0 => bytes.truncate(at),
        5 => bytes[at] = bytes[at].wrapping_add(1),
        _ => {
            let word = words[random.below(words.len())].bytes();
            let replaced = if random.below(2) == 0 { at..at } else { at..end };
            bytes.splice(replaced, word);
        }
    }
}

/// Anywhere, or as often near the start, where headers are.
fn place(len: usize, random: &mut Random) -> usize {
    let range = if random.below(2) == 0 { len } else { len.min(4096) };
    random.below(range)
}
