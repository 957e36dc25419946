//! Words of a text and hashes of what stands together in it: the grams of overlap checks, the shingles of duplicates.
//!
//! A word is a run of letters and digits in lower case. Apostrophes inside a word are dropped ("don't" is
//! "dont"), everything else separates words. That is the normalisation of GPT-3's contamination check (arXiv
//! 2005.14165, appendix C) and of lm-eval, except that they join what a hyphen or a slash separates.

use crate::hash::mix;

/// Words in a gram of the overlap and contamination checks.
pub const GRAM_WORDS: usize = 13;

/// Odd multiplier of the rolling hash.
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x100_0000_01B3;

/// Calls `f` with the hash of every word.
pub(crate) fn for_each_word(text: &str, mut f: impl FnMut(u64)) {
    let (mut hash, mut inside) = (FNV_OFFSET, false);
    let add = |c: char, hash: &mut u64| *hash = (*hash ^ u64::from(c)).wrapping_mul(FNV_PRIME);
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            inside = true;
            add(c.to_ascii_lowercase(), &mut hash);
        } else if !c.is_ascii() && c.is_alphanumeric() {
            inside = true;
            c.to_lowercase().for_each(|c| add(c, &mut hash));
        } else if inside && !matches!(c, '\'' | '\u{2019}') {
            f(hash);
            (hash, inside) = (FNV_OFFSET, false);
        }
    }
    if inside {
        f(hash);
    }
}

/// Calls `f` with the hash of every letter and digit in lower case, and of one space for whatever is between words.
fn for_each_character(text: &str, mut f: impl FnMut(u64)) {
    let (mut inside, mut pending) = (false, false);
    for c in text.chars() {
        if c.is_alphanumeric() {
            if std::mem::take(&mut pending) {
                f(mix(u64::from(' ')));
            }
            inside = true;
            c.to_lowercase().for_each(|c| f(mix(u64::from(c))));
        } else if !matches!(c, '\'' | '\u{2019}') {
            pending = inside;
        }
    }
}

/// The hashes of the words of a text.
pub(crate) fn words(text: &str) -> Vec<u64> {
    let mut words = Vec::with_capacity(text.len() / 5);
    for_each_word(text, |word| words.push(word));
    words
}

/// Calls `f` with the hash of every run of `size` elements: mix(sum of element_i * BASE^(size - 1 - i)), kept up by adding
/// the newest and taking the oldest away.
pub(crate) fn for_each_run(elements: &[u64], size: usize, mut f: impl FnMut(u64)) {
    let Some((first, rest)) = elements.split_at_checked(size) else { return };
    let leaving = BASE.wrapping_pow(size as u32);
    let mut sum = first.iter().fold(0u64, |sum, &element| sum.wrapping_mul(BASE).wrapping_add(element));
    f(mix(sum));
    for (&newest, &oldest) in rest.iter().zip(elements) {
        sum = sum.wrapping_mul(BASE).wrapping_add(newest).wrapping_sub(oldest.wrapping_mul(leaving));
        f(mix(sum));
    }
}

/// Calls `f` with the hash of every gram of `size` words of a text.
pub(crate) fn for_each_gram(text: &str, size: usize, f: impl FnMut(u64)) {
    for_each_run(&words(text), size, f);
}

/// What a shingle is: the elements of the sets whose similarity decides on near duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shingles {
    /// So many words in a row.
    Words(usize),
    /// So many characters in a row, words separated by one space: for languages that write no spaces.
    Characters(usize),
}

impl Shingles {
    /// The number of words or characters.
    pub fn size(self) -> usize {
        match self {
            Self::Words(size) | Self::Characters(size) => size,
        }
    }

    /// Calls `f` with the hash of every shingle of a text; a shorter text that is not empty is one shingle.
    pub(crate) fn for_each(self, text: &str, mut f: impl FnMut(u64)) {
        let elements = match self {
            Self::Words(_) => words(text),
            Self::Characters(_) => {
                let mut characters = Vec::with_capacity(text.len());
                for_each_character(text, |character| characters.push(character));
                characters
            }
        };
        match elements.len() {
            0 => {}
            // The length makes it differ from a run of other shingles.
            short if short < self.size() => {
                for_each_run(&elements, short, |hash| f(mix(hash ^ short as u64)))
            }
            _ => for_each_run(&elements, self.size(), f),
        }
    }
}

/// A bit for every hash modulo the number of bits: most hashes that are looked up end here, without a search.
#[derive(Debug)]
pub(crate) struct Filter(Vec<u64>);

impl Filter {
    /// 16 bits a hash, rounded up to a power of two: at most one in 16 passes by chance.
    pub(crate) fn new(hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        let mut filter = Self(vec![0; (hashes.len() * 16).next_power_of_two().div_ceil(64)]);
        for hash in hashes {
            let (word, bit) = filter.place(hash);
            filter.0[word] |= bit;
        }
        filter
    }

    fn place(&self, hash: u64) -> (usize, u64) {
        let index = hash as usize & (self.0.len() * 64 - 1);
        (index / 64, 1 << (index % 64))
    }

    /// Whether the hash may be among them; never `false` for one that is.
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        self.0[word] & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shingles(kind: Shingles, text: &str) -> Vec<u64> {
        let mut all = Vec::new();
        kind.for_each(text, |hash| all.push(hash));
        all
    }

    #[test]
    fn case_and_punctuation_do_not_count_and_words_do() {
        assert_eq!(words("Don\u{2019}t stop -- the HIV/AIDS test."), words("dont stop the hiv aids TEST"));
        assert_eq!(
            words("\u{c4}rzte \u{939}\u{943}\u{926}\u{92f}").len(),
            words("\u{e4}rzte \u{939}\u{943}\u{926}\u{92f}").len()
        );
        assert_eq!(words("\u{c4}rzte")[0], words("\u{e4}rzte")[0]);
        assert_ne!(words("ab c"), words("a bc"));
        assert!(words(" '' -- ").is_empty());
    }

    #[test]
    fn a_gram_is_a_window_wherever_it_stands() {
        let gram = |text: &str, size| {
            let mut all = Vec::new();
            for_each_gram(text, size, |hash| all.push(hash));
            all
        };
        assert_eq!(gram("x y a b c d", 3)[2..], gram("a b c d", 3));
        assert_eq!(gram("a b", 3), [] as [u64; 0]);
        assert_ne!(gram("a b c", 3), gram("c b a", 3));
    }

    #[test]
    fn a_short_text_is_one_shingle() {
        let five = Shingles::Words(5);
        assert_eq!(shingles(five, "one two").len(), 1);
        assert_ne!(shingles(five, "one two"), shingles(five, "one two three"));
        assert_eq!(shingles(five, "a b c d e f").len(), 2);
        assert!(shingles(five, "...").is_empty());
        assert_eq!(shingles(Shingles::Characters(3), "A, b").len(), 1, "`a b`");
        assert_eq!(shingles(Shingles::Characters(3), "abc abc").len(), 5);
    }

    #[test]
    fn the_filter_never_forgets() {
        let hashes: Vec<u64> = (0..500).map(mix).collect();
        let filter = Filter::new(hashes.iter().copied());
        assert!(hashes.iter().all(|&hash| filter.may_hold(hash)));
        let by_chance = (1_000_000..1_010_000).filter(|&n| filter.may_hold(mix(n))).count();
        assert!(by_chance < 1_000, "{by_chance} of 10,000");
    }
}
