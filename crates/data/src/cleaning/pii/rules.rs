//! What each kind of personal data looks like: a pattern that proposes, and a check that decides.

use super::PiiKind;
use super::checks::{self, digits};
use regex::Regex;
use std::ops::Range;

/// One form of one kind.
pub(super) struct Rule {
    pub(super) kind: PiiKind,
    pub(super) pattern: Regex,
    /// Whether matches have no limit of length: after a refusal the search then goes on behind the match, or long runs of
    /// letters would be searched again from every letter.
    pub(super) unlimited: bool,
    /// Whether the text must hold an ASCII digit at all.
    pub(super) needs_digit: bool,
    pub(super) accept: fn(&Candidate<'_>) -> Option<Range<usize>>,
}

/// What a pattern proposed: its first group, or all of it where it has none.
pub(super) struct Candidate<'a> {
    /// The whole text.
    pub(super) text: &'a str,
    /// Where the pattern matched, label included.
    pub(super) matched: Range<usize>,
    /// What would be replaced.
    pub(super) range: Range<usize>,
}

impl Candidate<'_> {
    fn value(&self) -> &str {
        &self.text[self.range.clone()]
    }

    fn before(&self) -> Option<char> {
        self.text[..self.matched.start].chars().next_back()
    }

    fn after(&self, end: usize) -> Option<char> {
        self.text[end..].chars().next()
    }

    /// No letter or digit, nor one of `also`, stands directly on either side.
    fn alone(&self, also: &str) -> bool {
        let joins = |c: char| c.is_alphanumeric() || also.contains(c);
        !self.before().is_some_and(joins) && !self.joined_after(self.range.end, also)
    }

    /// Whether a letter or digit follows, or one of `also` and then one.
    fn joined_after(&self, end: usize, also: &str) -> bool {
        let mut after = self.text[end..].chars();
        match after.next() {
            Some(c) if c.is_alphanumeric() => true,
            Some(c) if also.contains(c) => after.next().is_some_and(char::is_alphanumeric),
            _ => false,
        }
    }

    /// The 24 bytes or so before, in lower case.
    fn lead(&self) -> String {
        let from = self.matched.start.saturating_sub(24);
        let from = (from..=self.matched.start).find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        self.text[from..self.matched.start].to_lowercase()
    }

    fn if_(&self, accepted: bool) -> Option<Range<usize>> {
        accepted.then(|| self.range.clone())
    }
}

const MONTH: &str = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}";

/// All rules; where findings overlap, the earlier rule wins.
pub(super) fn rules() -> Vec<Rule> {
    let date = format!(
        "[0-9]{{4}}[-/.][0-9]{{1,2}}[-/.][0-9]{{1,2}}|[0-9]{{1,2}}[-/.][0-9]{{1,2}}[-/.](?:[0-9]{{4}}|[0-9]{{2}})\
         |[0-9]{{1,2}}(?:st|nd|rd|th)?\\s+(?:of\\s+)?{MONTH}\\.?,?\\s+[0-9]{{4}}|{MONTH}\\.?\\s+[0-9]{{1,2}}(?:st|nd|rd|th)?,?\\s+[0-9]{{4}}"
    );
    let birth = format!(
        "(?i-u)(?:d\\.?o\\.?b\\.?|date\\s+of\\s+birth|birth\\s?date|birthday|born)\\s*(?:\\([a-z/ -]{{1,20}}\\))?\\s*[:=]?\\s*(?:is\\s+|was\\s+|on\\s+)?({date})"
    );
    let is = r"\s*(?:is\s+)?[:#=]?\s*#?\s*";
    let record = format!(
        r"(?i-u)(?:mrn|medical\s+record(?:\s+(?:number|no\.?))?|patient\s+(?:id|identifier|number|no\.)|hospital\s+(?:number|no\.)|chart\s+(?:number|no\.)){is}([a-z0-9][a-z0-9-]{{3,19}})"
    );
    let passport = format!(r"(?i-u)passport(?:\s+(?:number|no\.?|nr\.?))?{is}([a-z0-9]{{6,9}})");
    let ssn = format!(
        r"(?i-u)(?:ssn|social\s+security(?:\s+(?:number|no\.?))?){is}([0-9]{{3}}[- ]?[0-9]{{2}}[- ]?[0-9]{{4}})"
    );
    let nhs = format!(r"(?i-u)nhs(?:\s+(?:number|no\.?))?{is}([0-9]{{3}}[ -]?[0-9]{{3}}[ -]?[0-9]{{4}})");
    let steuer = format!(
        r"(?i-u)(?:steuer-?id|steuerliche\s+identifikationsnummer|idnr\.?|tax\s+id){is}([0-9]{{2}} ?[0-9]{{3}} ?[0-9]{{3}} ?[0-9]{{3}})"
    );
    let pesel = format!(r"(?i-u)pesel{is}([0-9]{{11}})");
    let sin = format!(
        r"(?i-u)(?:\bsin|social\s+insurance\s+(?:number|no\.?)){is}([0-9]{{3}}[ -]?[0-9]{{3}}[ -]?[0-9]{{3}})"
    );
    let phone = r"(?i-u)(?:telephone|tel|phone|mobile|cellphone|cell|fax|call|ph)(?:\s+(?:number|no\.?|us|me))?\s*[.:#]?\s*(?:is\s+|at\s+|on\s+)?(\(?[0-9][0-9 ().-]{5,18}[0-9])";
    use PiiKind::{
        CreditCard, DateOfBirth, Email, Iban, Ip, MedicalRecordNumber, NationalId, Passport, Phone, UrlUser,
        UsSsn,
    };
    let rule = |kind, pattern: &str, accept: fn(&Candidate<'_>) -> Option<Range<usize>>| {
        let pattern = Regex::new(pattern).expect("a pattern of this file; a test compiles all");
        Rule {
            kind,
            pattern,
            unlimited: kind == Email,
            needs_digit: !matches!(kind, UrlUser | Email | Ip),
            accept,
        }
    };
    vec![
        rule(
            UrlUser,
            r"(?-u)[A-Za-z][A-Za-z0-9+.-]{1,15}://([A-Za-z0-9._~!$&'()*+,;=%-]{1,64}(?::[A-Za-z0-9._~!$&'()*+,;=%:-]{0,64})?)@[A-Za-z0-9\[]",
            |c| c.if_(true),
        ),
        rule(Email, r"[\p{L}\p{N}._%+-]+@(?:[\p{L}\p{N}][\p{L}\p{N}-]*\.)+\p{L}{2,}", email),
        rule(Iban, r"(?-u)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?", iban),
        rule(CreditCard, r"(?-u)[0-9](?:[ -]?[0-9]){12,18}", card),
        rule(UsSsn, &ssn, |c| c.if_(c.alone("") && checks::us_ssn(&digits(c.value())))),
        rule(UsSsn, r"(?-u)[0-9]{3}-[0-9]{2}-[0-9]{4}", bare_ssn),
        rule(DateOfBirth, &birth, birth_date),
        rule(MedicalRecordNumber, &record, |c| c.if_(c.alone("") && digits(c.value()).len() >= 4)),
        rule(Passport, &passport, |c| c.if_(c.alone("-/") && digits(c.value()).len() >= 6)),
        rule(
            Passport,
            r"(?-u)[A-Z0-9<]{9}[0-9][A-Z<]{3}[0-9]{7}[MFX<][0-9]{7}[A-Z0-9<]{14}[0-9<][0-9]",
            |c| c.if_(c.alone("") && checks::passport_zone(c.value())),
        ),
        rule(NationalId, &nhs, |c| c.if_(c.alone("") && checks::nhs(&digits(c.value())))),
        rule(NationalId, &steuer, |c| c.if_(c.alone("") && checks::steuer_id(&digits(c.value())))),
        rule(NationalId, &pesel, |c| c.if_(c.alone("") && checks::pesel(&digits(c.value())))),
        rule(NationalId, &sin, |c| c.if_(c.alone("") && checks::luhn(&digits(c.value())))),
        rule(NationalId, r"(?-u)[0-9]{8}-?[A-Z]", |c| c.if_(c.alone("-") && checks::dni(c.value()))),
        rule(NationalId, r"(?-u)[XYZ]-?[0-9]{7}-?[A-Z]", |c| c.if_(c.alone("-") && checks::dni(c.value()))),
        rule(
            NationalId,
            r"(?-u)[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]",
            |c| c.if_(c.alone("") && checks::codice_fiscale(c.value())),
        ),
        rule(
            NationalId,
            r"(?-u)[12] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
            |c| c.if_(c.alone("-.") && checks::nir(c.value())),
        ),
        rule(NationalId, r"(?-u)[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", |c| {
            c.if_(c.alone(".-") && checks::cpf(&digits(c.value())))
        }),
        rule(NationalId, r"(?-u)[1-9][0-9]{16}[0-9Xx]", |c| {
            c.if_(c.alone(".-") && checks::resident_id(c.value()))
        }),
        rule(NationalId, r"(?-u)[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}", |c| {
            c.if_(c.alone(".-") && !in_series(c, &c.range) && checks::aadhaar(&digits(c.value())))
        }),
        rule(NationalId, r"(?-u)[0-9]{6}[-+][0-9]{4}", |c| {
            c.if_(c.alone(".-/") && checks::personnummer(&digits(c.value())))
        }),
        rule(Ip, r"(?-u)[0-9]{1,3}(?:\.[0-9]{1,3}){3}", ipv4),
        rule(Ip, r"(?i-u)[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){3,7}", ipv6),
        rule(Phone, r"(?-u)\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,6}", international),
        rule(
            Phone,
            r"(?-u)(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}",
            north_american,
        ),
        rule(Phone, phone, labelled_phone),
    ]
}

/// Not what only looks like an address: `logo@2x.png`, `git@host:path`.
fn email(c: &Candidate<'_>) -> Option<Range<usize>> {
    const FILES: [&str; 12] =
        ["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "html", "json", "txt", "pdf"];
    let value = c.value();
    let (local, host) = value.split_once('@')?;
    let ending = host.rsplit('.').next()?.to_lowercase();
    let local_ok = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
    let is_path = local == "git" && c.after(c.range.end) == Some(':');
    // RFC 5321: a longer local part is none.
    let local_ok = local_ok && local.len() <= 64;
    c.if_(local_ok && !is_path && !FILES.contains(&ending.as_str()) && c.alone("@"))
}

/// Cuts the match where the country's length ends.
fn iban(c: &Candidate<'_>) -> Option<Range<usize>> {
    let length = checks::iban_length(c.value().get(..2)?)?;
    let (at, _) = c.value().char_indices().filter(|(_, c)| *c != ' ').nth(length - 1)?;
    let range = c.range.start..c.range.start + at + 1;
    let compact = c.text[range.clone()].replace(' ', "");
    let alone = !c.before().is_some_and(char::is_alphanumeric) && !c.joined_after(range.end, "");
    (alone && checks::iban(&compact)).then_some(range)
}

/// Without a label: not a section of a code (Wash. Admin. Code 388-25-0210).
fn bare_ssn(c: &Candidate<'_>) -> Option<Range<usize>> {
    let lead = c.lead();
    let is_section = lead.contains("code") || lead.trim_end().ends_with(['\u{a7}', '$']);
    c.if_(!is_section && c.alone("-./") && checks::us_ssn(&digits(c.value())))
}

/// The longest number of an issuer that begins here, in groups as on a card or without any.
fn card(c: &Candidate<'_>) -> Option<Range<usize>> {
    if c.before().is_some_and(|c| c.is_alphanumeric() || ".-".contains(c)) {
        return None;
    }
    let ends: Vec<usize> =
        c.value().char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at + 1).collect();
    (13..=ends.len()).rev().find_map(|count| {
        let range = c.range.start..c.range.start + ends[count - 1];
        let value = &c.text[range.clone()];
        let groups: Vec<usize> = value.split([' ', '-']).map(str::len).collect();
        let grouped = matches!(
            groups.as_slice(),
            [_] | [4, 4, 4, 4] | [4, 4, 4, 4, 3] | [4, 6, 5] | [4, 6, 4] | [4, 4, 4, 1]
        );
        let one_separator = !(value.contains(' ') && value.contains('-'));
        let numbers = digits(value);
        let varied = numbers.iter().any(|digit| *digit != numbers[0]);
        let series = groups.len() > 1 && in_series(c, &range);
        let free = !series && !c.joined_after(range.end, ".-");
        (grouped && one_separator && varied && free && checks::is_card(&numbers)).then_some(range)
    })
}

/// Whether another group of four digits stands before or after: then it is a longer number, or a list of numbers.
fn in_series(c: &Candidate<'_>, range: &Range<usize>) -> bool {
    let is_digit = |c: &char| c.is_ascii_digit();
    let before = c.text[..range.start].strip_suffix([' ', '-']).unwrap_or("");
    let after = c.text[range.end..].strip_prefix([' ', '-']).unwrap_or("");
    before.chars().rev().take_while(is_digit).count() >= 4 || after.chars().take_while(is_digit).count() == 4
}

/// A date that exists, of somebody who may be alive.
fn birth_date(c: &Candidate<'_>) -> Option<Range<usize>> {
    let value = c.value();
    let numbers: Vec<u32> =
        value.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
    let plausible = match numbers.as_slice() {
        [year, a, b] if *year >= 1000 => *year >= 1900 && is_day(*a, *b),
        [a, b, year] => (*year < 100 || *year >= 1900) && is_day(*a, *b),
        [day, year] => *year >= 1900 && (1..=31).contains(day),
        _ => false,
    };
    c.if_(plausible && c.alone("-/"))
}

/// Month and day in either order.
fn is_day(a: u32, b: u32) -> bool {
    (1..=31).contains(&a) && (1..=31).contains(&b) && a.min(b) <= 12
}

/// Not a number of a version or section, and no address that everybody has.
fn ipv4(c: &Candidate<'_>) -> Option<Range<usize>> {
    const NUMBERED: [&str; 16] = [
        "version",
        "ver.",
        "release",
        "section",
        "sec.",
        "chapter",
        "rule",
        "part",
        "article",
        "art.",
        "table",
        "figure",
        "fig.",
        "no.",
        "clause",
        "paragraph",
    ];
    let parts: Vec<&str> = c.value().split('.').collect();
    let octets: Vec<u8> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    let &[a, b, _, d] = octets.as_slice() else { return None };
    let padded = parts.iter().any(|part| part.len() > 1 && part.starts_with('0'));
    let shared = a == 0 || a == 127 || (a == 255 && d == 255) || (a == 10 && b == 0 && d == 0);
    let lead = c.lead();
    let lead = lead.trim_end();
    let numbered = NUMBERED.iter().any(|word| lead.ends_with(word)) || lead.ends_with('\u{a7}');
    // `1.2.3.4` is a section number more often than an address.
    let short = octets.iter().all(|octet| *octet < 10) && !(lead.contains("ip") || lead.contains("address"));
    c.if_(!padded && !shared && !numbered && !short && c.alone(".-_/"))
}

fn ipv6(c: &Candidate<'_>) -> Option<Range<usize>> {
    let groups = c.value().split(':').filter(|group| !group.is_empty()).count();
    let address = c.value().parse::<core::net::Ipv6Addr>();
    let has_digit = c.value().bytes().any(|byte| byte.is_ascii_digit());
    // A ratio such as 27:9:9:9:3:3:3:1 has the form too.
    let is_ratio =
        !c.value().contains("::") && c.value().bytes().all(|byte| byte == b':' || byte.is_ascii_digit());
    c.if_(groups >= 4 && has_digit && !is_ratio && address.is_ok() && c.alone(":._-"))
}

/// 800, 833, 844, 855, 866, 877, 888: numbers of organisations.
fn is_toll_free(digits: &[u32]) -> bool {
    matches!(
        digits,
        [8, 0, 0, ..]
            | [8, 3, 3, ..]
            | [8, 4, 4, ..]
            | [8, 5, 5, ..]
            | [8, 6, 6, ..]
            | [8, 7, 7, ..]
            | [8, 8, 8, ..]
    )
}

/// Ten digits of somebody: N11 codes are nobody's.
fn is_private_north_american(digits: &[u32]) -> bool {
    let &[a, b, c, d, e, f, _, _, _, _] = digits else { return false };
    a >= 2 && d >= 2 && (b, c) != (1, 1) && (e, f) != (1, 1) && !is_toll_free(digits)
}

fn north_american(c: &Candidate<'_>) -> Option<Range<usize>> {
    let value = c.value();
    let mut numbers = digits(value);
    if numbers.len() == 11 {
        numbers.remove(0);
    }
    let only_spaces = !value.contains(['-', '.', '(']);
    let labelled = || {
        let lead = c.lead();
        ["tel", "phone", "call", "fax", "mobile", "cell", "contact"].iter().any(|word| lead.contains(word))
    };
    c.if_(is_private_north_american(&numbers) && c.alone(".-/+") && (!only_spaces || labelled()))
}

/// Country codes of ITU-T E.164 that are in use.
fn is_country(digits: &[u32]) -> bool {
    let &[a, b, c, ..] = digits else { return false };
    match (a, b) {
        (1 | 7, _) => true,
        (2, 0 | 7) | (3, 0..=4 | 6 | 9) | (4, 0 | 1 | 3..=9) | (5, 1..=8) | (6, 0..=6) => true,
        (8, 1 | 2 | 4 | 6) | (9, 0..=5 | 8) => true,
        (2, 1..=6 | 9) | (3, 5 | 7 | 8) | (4, 2) | (5, 0 | 9) | (6, 7..=9) | (8, 5 | 8) | (9, 6 | 7 | 9) => {
            c <= 9
        }
        _ => false,
    }
}

fn international(c: &Candidate<'_>) -> Option<Range<usize>> {
    let numbers = digits(c.value());
    let north_american = numbers[0] == 1;
    let possible = match north_american {
        true => is_private_north_american(&numbers[1..]),
        false => (8..=15).contains(&numbers.len()) && is_country(&numbers),
    };
    c.if_(possible && c.alone("-/"))
}

fn labelled_phone(c: &Candidate<'_>) -> Option<Range<usize>> {
    let value = c.value();
    let mut numbers = digits(value);
    if numbers.len() == 11 && numbers[0] == 1 {
        numbers.remove(0);
    }
    let toll_free = numbers.len() == 10 && is_toll_free(&numbers);
    let groups: Vec<usize> = value.split('-').map(str::len).collect();
    let dated = matches!(groups.as_slice(), [4, 2, 2] | [4, 4]);
    c.if_((7..=15).contains(&numbers.len()) && !toll_free && !dated && c.alone("-/"))
}
