//! General categories of characters, as far as pre-tokenizers ask for them.
//!
//! The ranges in `tables.rs` are those of the Unicode Character Database (version in that file); a test compares
//! every code point with a second implementation.

mod tables;

use std::sync::OnceLock;

/// Category of a character, in the order pre-tokenizers care about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Anything not named below: symbols, controls, unassigned.
    Other = 0,
    /// General category L.
    Letter = 1,
    /// General category M: combining marks, the vowel signs of Indic scripts among them.
    Mark = 2,
    /// General category N.
    Number = 3,
    /// General category P.
    Punctuation = 4,
    /// Property White_Space.
    Space = 5,
}

const CLASSES: [Class; 6] =
    [Class::Other, Class::Letter, Class::Mark, Class::Number, Class::Punctuation, Class::Space];

/// Categories of the Basic Multilingual Plane, one byte each, filled on first use.
fn plane_zero() -> &'static [u8; 0x10000] {
    static PAGE: OnceLock<Box<[u8; 0x10000]>> = OnceLock::new();
    PAGE.get_or_init(|| {
        let mut page = Box::new([0_u8; 0x10000]);
        for &(first, last, class) in tables::RANGES {
            for code in first..=last.min(0xFFFF) {
                page[code as usize] = class;
            }
        }
        page
    })
}

/// Category of `c`.
#[inline]
pub fn class(c: char) -> Class {
    let code = c as u32;
    if code < 0x10000 { CLASSES[plane_zero()[code as usize] as usize] } else { class_by_search(code) }
}

fn class_by_search(code: u32) -> Class {
    let at = tables::RANGES.partition_point(|&(_, last, _)| last < code);
    match tables::RANGES.get(at) {
        Some(&(first, _, class)) if first <= code => CLASSES[class as usize],
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests;
