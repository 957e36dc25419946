//! Personal data: found by form and check digit, counted, and replaced by placeholders.
//!
//! Every kind has a form that a program can tell: an address, a number with check digits, or a number or date behind a
//! label. Names, street addresses, ages, and dates without a label have none; they are not found.

mod checks;
mod files;
mod rules;

use rules::{Candidate, Rule};
use std::collections::BTreeMap;
use std::ops::Range;

pub use files::{PiiCount, PiiPlace, PiiReport, pii};

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PiiKind {
    /// An e-mail address.
    Email,
    /// User name and password in a URL.
    UrlUser,
    /// An IPv4 or IPv6 address.
    Ip,
    /// A telephone number: with a country code, in North American form, or behind a label.
    Phone,
    /// A payment card: issuer, length and Luhn.
    CreditCard,
    /// A bank account: country, length and mod 97.
    Iban,
    /// A US social security number.
    UsSsn,
    /// A number behind `MRN`, `medical record`, `patient id` and the like.
    MedicalRecordNumber,
    /// A date behind `born`, `DOB`, `date of birth`, from 1900 on.
    DateOfBirth,
    /// A number behind `passport`, or a passport's machine readable line.
    Passport,
    /// A national number with check digits (see the guide for the countries).
    NationalId,
}

impl PiiKind {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Email,
        Self::UrlUser,
        Self::Ip,
        Self::Phone,
        Self::CreditCard,
        Self::Iban,
        Self::UsSsn,
        Self::MedicalRecordNumber,
        Self::DateOfBirth,
        Self::Passport,
        Self::NationalId,
    ];

    /// The name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::UrlUser => "url_user",
            Self::Ip => "ip",
            Self::Phone => "phone",
            Self::CreditCard => "credit_card",
            Self::Iban => "iban",
            Self::UsSsn => "us_ssn",
            Self::MedicalRecordNumber => "medical_record_number",
            Self::DateOfBirth => "date_of_birth",
            Self::Passport => "passport",
            Self::NationalId => "national_id",
        }
    }

    /// What stands in its place afterwards, such as `[EMAIL]`.
    pub fn placeholder(self) -> String {
        format!("[{}]", self.name().to_uppercase())
    }
}

/// Personal data in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: PiiKind,
    /// Its bytes, label not included.
    pub range: Range<usize>,
}

/// Finds personal data of some kinds.
pub struct PiiDetector {
    rules: Vec<Rule>,
}

impl PiiDetector {
    /// A detector of these kinds.
    pub fn new(kinds: &[PiiKind]) -> Self {
        Self { rules: rules::rules().into_iter().filter(|rule| kinds.contains(&rule.kind)).collect() }
    }

    /// Everything found, in order, without overlaps.
    pub fn find(&self, text: &str) -> Vec<Finding> {
        let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
        // By start, without overlaps.
        let mut found: BTreeMap<usize, Finding> = BTreeMap::new();
        for rule in self.rules.iter().filter(|rule| has_digit || !rule.needs_digit) {
            for range in accepted(rule, text) {
                // Earlier rules win.
                let before = found.range(..range.end).next_back();
                if before.is_none_or(|(_, other)| other.range.end <= range.start) {
                    found.insert(range.start, Finding { kind: rule.kind, range });
                }
            }
        }
        found.into_values().collect()
    }
}

/// The text with each finding replaced by its placeholder.
pub fn redact(text: &str, findings: &[Finding]) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut from = 0;
    for finding in findings {
        redacted.push_str(&text[from..finding.range.start]);
        redacted.push_str(&finding.kind.placeholder());
        from = finding.range.end;
    }
    redacted.push_str(&text[from..]);
    redacted
}

/// What a rule accepts. After a refusal the search goes on one character later, because the pattern may have begun too
/// early, unless its matches can be of any length.
fn accepted(rule: &Rule, text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut from, mut groups) = (0, rule.pattern.capture_locations());
    while let Some(matched) = rule.pattern.captures_read_at(&mut groups, text, from) {
        let (start, end) = groups.get(1).unwrap_or((matched.start(), matched.end()));
        let candidate = Candidate { text, matched: matched.range(), range: start..end };
        from = match (rule.accept)(&candidate) {
            Some(range) => {
                let end = range.end;
                ranges.push(range);
                end
            }
            None if rule.unlimited => matched.end(),
            None => matched.start() + text[matched.start()..].chars().next().map_or(1, char::len_utf8),
        };
    }
    ranges
}

#[cfg(test)]
mod tests;
