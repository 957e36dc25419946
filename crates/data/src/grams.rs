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

/// A rolling hash over the last `size` elements: mix(sum of element_i * BASE^(size - 1 - i)), kept up by adding the
/// newest and taking the oldest away.
pub(crate) struct Rolling {
    last: Vec<u64>,
    sum: u64,
    leaving: u64,
    count: usize,
}

impl Rolling {
    /// A window of `size` elements, at least one.
    pub(crate) fn new(size: usize) -> Self {
        Self { last: vec![0; size], sum: 0, leaving: BASE.wrapping_pow(size as u32), count: 0 }
    }

    /// Adds an element; the hash of the window once it is full.
    pub(crate) fn push(&mut self, element: u64) -> Option<u64> {
        let size = self.last.len();
        let oldest = std::mem::replace(&mut self.last[self.count % size], element);
        self.sum = self.sum.wrapping_mul(BASE).wrapping_add(element);
        self.sum = self.sum.wrapping_sub(oldest.wrapping_mul(self.leaving));
        self.count += 1;
        (self.count >= size).then(|| mix(self.sum))
    }

    /// The hash of what is there while the window is not full; `None` if nothing is, or if it is full.
    pub(crate) fn partial(&self) -> Option<u64> {
        (1..self.last.len()).contains(&self.count).then(|| mix(self.sum ^ mix(self.count as u64)))
    }
}

/// Calls `f` with the hash of every gram of `size` words of a text.
pub(crate) fn for_each_gram(text: &str, size: usize, mut f: impl FnMut(u64)) {
    let mut rolling = Rolling::new(size);
    for_each_word(text, |word| {
        if let Some(hash) = rolling.push(word) {
            f(hash);
        }
    });
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
        let mut rolling = Rolling::new(self.size());
        let mut push = |element| {
            if let Some(hash) = rolling.push(element) {
                f(hash);
            }
        };
        match self {
            Self::Words(_) => for_each_word(text, &mut push),
            Self::Characters(_) => for_each_character(text, &mut push),
        }
        if let Some(hash) = rolling.partial() {
            f(hash);
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

    fn words(text: &str) -> Vec<u64> {
        let mut words = Vec::new();
        for_each_word(text, |word| words.push(word));
        words
    }

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
