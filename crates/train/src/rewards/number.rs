//! `kind = "number"`: 1 if the last number of the completion is the last number of the answer, else 0.
//!
//! A number is ASCII digits, perhaps with thousands separators (`1,200`: commas before every three digits), a decimal part
//! (`.5` and `0.50` are one number) and an exponent (`3e8`). A sign (`-`, `+` or U+2212) counts unless a letter, a digit, a
//! closing bracket or a `.` stands before it, so `5-3` ends with 3; a currency sign may stand between it and the digits.
//! `1/2` are two numbers. Numbers are compared as decimals of any length, not as floats, unless a tolerance is set.

use serde::{Deserialize, Serialize};

use super::error::shortened;
use super::section::{RewardProblem, default_weight, ensure};
use super::{RewardError, Rule, Sample};

/// `kind = "number"`: 1 if the last number of the completion is the last number of the answer (`#### 42`), else 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberSection {
    /// How far off it may be, as a share of the answer's number; 0: not at all.
    #[serde(default)]
    pub tolerance: f64,
    /// Factor in the sum.
    #[serde(default = "default_weight")]
    pub weight: f64,
}

impl NumberSection {
    pub(super) fn check(&self) -> Result<(), RewardProblem> {
        ensure((0.0..1.0).contains(&self.tolerance), "rewards.tolerance", || {
            format!("{}, expected 0 up to but not including 1", self.tolerance)
        })
    }
}

/// The rule of a section.
pub(super) struct Number {
    tolerance: f64,
}

impl Number {
    pub fn new(section: &NumberSection) -> Self {
        Self { tolerance: section.tolerance }
    }
}

impl Rule for Number {
    fn score_of(&self, sample: &Sample<'_>) -> Result<f32, RewardError> {
        let answer = last_number(sample.answer).ok_or_else(|| RewardError::Answer {
            kind: "number",
            problem: "no number",
            answer: shortened(sample.answer),
        })?;
        let same = |found: &Decimal| {
            let off = (found.value() - answer.value()).abs();
            *found == answer || (self.tolerance > 0.0 && off <= self.tolerance * answer.value().abs())
        };
        Ok(f32::from(last_number(sample.completion).as_ref().is_some_and(same)))
    }
}

/// `0.digits * 10^exponent`, digits without zeros at either end; zero has none, and no sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn new(negative: bool, whole: &str, fraction: &str, exponent: i64) -> Self {
        let all: String = whole.chars().filter(|c| *c != ',').chain(fraction.chars()).collect();
        let point = all.len() as i64 - fraction.len() as i64;
        let stripped = all.trim_start_matches('0');
        let exponent = point - (all.len() - stripped.len()) as i64 + exponent;
        let digits = stripped.trim_end_matches('0').to_owned();
        match digits.is_empty() {
            true => Self { negative: false, digits, exponent: 0 },
            false => Self { negative, digits, exponent },
        }
    }

    /// The nearest float; infinite where it is too large.
    fn value(&self) -> f64 {
        let sign = if self.negative { "-" } else { "" };
        // What Rust's grammar of floats takes is never refused.
        format!("{sign}0.{}e{}", if self.digits.is_empty() { "0" } else { &self.digits }, self.exponent)
            .parse()
            .unwrap_or(f64::NAN)
    }
}

/// The last number of a text.
pub(super) fn last_number(text: &str) -> Option<Decimal> {
    let mut last = None;
    let mut at = 0;
    while let Some(found) = text[at..].find(|c: char| c.is_ascii_digit()) {
        let (number, end) = number_at(text, at + found);
        last = Some(number);
        at = end;
    }
    last
}

/// The number whose first digit stands at `start`, and where it ends.
fn number_at(text: &str, start: usize) -> (Decimal, usize) {
    let digits = |at: usize| text[at..].bytes().take_while(u8::is_ascii_digit).count();
    let before = &text[..start];
    let leading_point = before.ends_with('.') && !before[..before.len() - 1].ends_with(is_word);
    let (mut end, mut whole, mut fraction) = (start + digits(start), &text[start..start], "");
    if leading_point {
        fraction = &text[start..end];
    } else {
        end += thousands(&text[end..], end - start);
        whole = &text[start..end];
        let decimals = if text[end..].starts_with('.') { digits(end + 1) } else { 0 };
        if decimals > 0 {
            fraction = &text[end + 1..end + 1 + decimals];
            end += 1 + decimals;
        }
    }
    let exponent = exponent_at(&text[end..]);
    let before = if leading_point { &before[..before.len() - 1] } else { before };
    let (exponent, len) = exponent.unwrap_or((0, 0));
    (Decimal::new(is_negative(before), whole, fraction, exponent), end + len)
}

/// Bytes of `,ddd` groups that continue a number of `len` digits; 0 unless all are whole.
fn thousands(rest: &str, len: usize) -> usize {
    let is_group = |group: &&[u8]| group[0] == b',' && group[1..].iter().all(u8::is_ascii_digit);
    let groups = rest.as_bytes().chunks_exact(4).take_while(is_group).count();
    let followed = rest.as_bytes().get(4 * groups).is_some_and(u8::is_ascii_digit);
    if (1..=3).contains(&len) && !followed { 4 * groups } else { 0 }
}

/// The exponent that `rest` begins with, and its length.
fn exponent_at(rest: &str) -> Option<(i64, usize)> {
    let power = rest.strip_prefix(['e', 'E'])?;
    let sign = usize::from(power.starts_with(['+', '-']));
    let digits = power[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let ends = !power[sign + digits..].starts_with(is_word);
    // A longer one would only overflow.
    let fits = (1..=9).contains(&digits) && ends;
    fits.then(|| Some((power[..sign + digits].parse().ok()?, 1 + sign + digits))).flatten()
}

/// Whether what stands before a number ends with a minus of its own.
fn is_negative(before: &str) -> bool {
    let before = before.strip_suffix(['$', '€', '£', '¥', '₹']).unwrap_or(before);
    let minus = before.strip_suffix(['-', '\u{2212}']);
    minus.is_some_and(|before| !before.ends_with(|c: char| is_word(c) || ")]}.".contains(c)))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
