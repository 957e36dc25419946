//! Check digits: what tells a number of a person from any other digits.

/// The digits of a text, everything else left out.
pub(super) fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// Sum of products with repeating weights.
fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights.iter().cycle()).map(|(digit, weight)| digit * weight).sum()
}

/// Luhn (ISO/IEC 7812-1): cards, Canadian and Swedish numbers.
pub(super) fn luhn(digits: &[u32]) -> bool {
    let doubled = |(place, &digit): (usize, &u32)| match (place % 2, digit * 2) {
        (0, _) => digit,
        (_, twice) => twice / 10 + twice % 10,
    };
    !digits.is_empty() && digits.iter().rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

/// Whether length and first digits are those of an issuer (ISO/IEC 7812, the large card schemes).
pub(super) fn is_card(digits: &[u32]) -> bool {
    let prefix = |count: usize| digits.iter().take(count).fold(0, |number, digit| number * 10 + digit);
    let (two, three, four) = (prefix(2), prefix(3), prefix(4));
    let issued = match digits.len() {
        13 => digits[0] == 4,
        14 => two == 36 || two == 38 || two == 39 || (300..=305).contains(&three),
        15 => two == 34 || two == 37,
        16 => {
            digits[0] == 4
                || (51..=55).contains(&two)
                || (2221..=2720).contains(&four)
                || four == 6011
                || two == 65
                || (644..=649).contains(&three)
                || (3528..=3589).contains(&four)
                || two == 62
        }
        19 => digits[0] == 4 || two == 62,
        _ => false,
    };
    issued && luhn(digits)
}

/// Lengths of IBANs by country (ISO 13616 registry).
const IBAN_LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 \
     EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 \
     LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 \
     SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20";

/// The length of this country's IBANs.
pub(super) fn iban_length(country: &str) -> Option<usize> {
    IBAN_LENGTHS.split(' ').find_map(|entry| entry.strip_prefix(country)?.parse().ok())
}

/// Mod 97 (ISO 7064) of an IBAN without spaces.
pub(super) fn iban(text: &str) -> bool {
    let Some((head, tail)) = text.split_at_checked(4) else { return false };
    let value = tail.chars().chain(head.chars()).try_fold(0u64, |rest, c| {
        let digit = u64::from(c.to_digit(36)?);
        Some((rest * if digit < 10 { 10 } else { 100 } + digit) % 97)
    });
    value == Some(1)
}

/// US social security number: no area 000, 666 or 9xx, no group 00, no serial 0000; two numbers were published by mistake.
pub(super) fn us_ssn(digits: &[u32]) -> bool {
    let number = |part: &[u32]| part.iter().fold(0, |number, digit| number * 10 + digit);
    let [area, group, serial] = match digits.len() {
        9 => [number(&digits[..3]), number(&digits[3..5]), number(&digits[5..])],
        _ => return false,
    };
    let published = [(78, 5, 1120), (219, 9, 9999)];
    area != 0
        && area != 666
        && area < 900
        && group != 0
        && serial != 0
        && !published.contains(&(area, group, serial))
}

/// British NHS number: mod 11.
pub(super) fn nhs(digits: &[u32]) -> bool {
    digits.len() == 10
        && match 11 - weighted(&digits[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11 {
            11 => digits[9] == 0,
            check => digits[9] == check,
        }
}

/// Spanish DNI and NIE: the letter is the number mod 23.
pub(super) fn dni(text: &str) -> bool {
    let text: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let (Some(first), Some(letter)) = (text.first(), text.last()) else { return false };
    let first = match first {
        'X' => '0',
        'Y' => '1',
        'Z' => '2',
        digit => *digit,
    };
    let number: String = std::iter::once(first).chain(text[1..text.len() - 1].iter().copied()).collect();
    let number = number.parse::<usize>().unwrap_or(usize::MAX);
    "TRWAGMYFPDXBNJZSQVHLCKE".chars().nth(number % 23) == Some(*letter)
}

/// Italian codice fiscale: odd places by a table, even ones by their value, mod 26.
pub(super) fn codice_fiscale(text: &str) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let value = |(place, c): (usize, u8)| {
        let value = u32::from(if c.is_ascii_digit() { c - b'0' } else { c - b'A' });
        if place % 2 == 0 { ODD[value as usize] } else { value }
    };
    let (body, check) = text.as_bytes().split_at(15);
    body.iter().copied().enumerate().map(value).sum::<u32>() % 26 == u32::from(check[0] - b'A')
}

/// French NIR: the key is 97 minus the number mod 97; the departments 2A and 2B count as 19 and 18.
pub(super) fn nir(text: &str) -> bool {
    let text: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let text = text.replace("2A", "19").replace("2B", "18");
    let (Some(number), Some(key)) = (text.get(..13), text.get(13..)) else { return false };
    let (number, key) = (number.parse::<u64>(), key.parse::<u64>());
    matches!((number, key), (Ok(number), Ok(key)) if 97 - number % 97 == key)
}

/// Brazilian CPF: two digits, each mod 11.
pub(super) fn cpf(digits: &[u32]) -> bool {
    let check = |count: usize| {
        let weights: Vec<u32> = (2..=count as u32 + 1).rev().collect();
        let rest = weighted(&digits[..count], &weights) * 10 % 11;
        rest % 10 == digits[count]
    };
    digits.len() == 11 && digits.iter().any(|digit| *digit != digits[0]) && check(9) && check(10)
}

/// Chinese resident identity number: mod 11-2 (ISO 7064), with a birth date inside.
pub(super) fn resident_id(text: &str) -> bool {
    let value = |c: char| if c == 'X' || c == 'x' { Some(10) } else { c.to_digit(10) };
    let Some(digits) = text.chars().map(value).collect::<Option<Vec<u32>>>() else { return false };
    let number =
        |from: usize, to: usize| digits[from..to].iter().fold(0, |number, digit| number * 10 + digit);
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2, 1];
    digits.len() == 18
        && (1900..2100).contains(&number(6, 10))
        && (1..=12).contains(&number(10, 12))
        && (1..=31).contains(&number(12, 14))
        && weighted(&digits, &weights) % 11 == 1
}

/// Indian Aadhaar: Verhoeff's dihedral check.
pub(super) fn aadhaar(digits: &[u32]) -> bool {
    const MULTIPLY: [[usize; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const PERMUTE: [usize; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let permuted = |place: usize, digit: u32| (0..place % 8).fold(digit as usize, |digit, _| PERMUTE[digit]);
    let places = digits.iter().rev().enumerate();
    digits.len() == 12 && places.fold(0, |sum, (place, &digit)| MULTIPLY[sum][permuted(place, digit)]) == 0
}

/// German tax number of a person: mod 11, 10 (ISO 7064).
pub(super) fn steuer_id(digits: &[u32]) -> bool {
    let product = digits.iter().take(10).fold(10, |product, digit| {
        let sum = (digit + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    digits.len() == 11 && digits[0] != 0 && (11 - product) % 10 == digits[10]
}

/// Polish PESEL: weights 1, 3, 7, 9.
pub(super) fn pesel(digits: &[u32]) -> bool {
    digits.len() == 11 && (weighted(&digits[..10], &[1, 3, 7, 9]) + digits[10]).is_multiple_of(10)
}

/// Swedish personal number: Luhn over ten digits, the first six of which are a date.
pub(super) fn personnummer(digits: &[u32]) -> bool {
    let pair = |at: usize| digits[at] * 10 + digits[at + 1];
    digits.len() == 10 && (1..=12).contains(&pair(2)) && (1..=31).contains(&pair(4)) && luhn(digits)
}

/// The second line of a passport's machine readable zone (ICAO 9303): number, birth and expiry each with a digit.
pub(super) fn passport_zone(line: &str) -> bool {
    let value = |c: char| if c == '<' { 0 } else { c.to_digit(36).unwrap_or(0) };
    let values: Vec<u32> = line.chars().map(value).collect();
    let check = |from: usize, to: usize| weighted(&values[from..to], &[7, 3, 1]) % 10 == values[to];
    values.len() == 44 && check(0, 9) && check(13, 19) && check(21, 27)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every valid number fails with any one digit changed, which is what a check digit is for.
    fn catches_every_changed_digit(text: &str, check: impl Fn(&str) -> bool) {
        assert!(check(text), "{text}");
        for (at, c) in text.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
            for other in ('0'..='9').filter(|other| *other != c) {
                let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                assert!(!check(&changed), "{changed} for {text}");
            }
        }
    }

    #[test]
    fn check_digits_catch_single_errors() {
        // Published specimens, none of them a person's.
        catches_every_changed_digit("046454286", |text| luhn(&digits(text)));
        catches_every_changed_digit("GB82WEST12345698765432", iban);
        catches_every_changed_digit("FR1420041010050500013M02606", iban);
        catches_every_changed_digit("9434765919", |text| nhs(&digits(text)));
        catches_every_changed_digit("12345678Z", dni);
        catches_every_changed_digit("X1234567L", dni);
        catches_every_changed_digit("529982247-25", |text| cpf(&digits(text)));
        catches_every_changed_digit("499118665246", |text| aadhaar(&digits(text)));
        catches_every_changed_digit("86095742719", |text| steuer_id(&digits(text)));
        catches_every_changed_digit("44051401359", |text| pesel(&digits(text)));
        catches_every_changed_digit("8112189876", |text| personnummer(&digits(text)));
        catches_every_changed_digit("2 55 08 14 168 025 38", nir);
        assert!(resident_id("11010519491231002X") && !resident_id("110105194912310021"));
        assert!(codice_fiscale("RSSMRA85T10A562S") && !codice_fiscale("RSSMRA85T10A562T"));
        assert!(passport_zone("L898902C36UTO7408122F1204159ZE184226B<<<<<10"));
        assert!(!passport_zone("L898902C36UTO7408123F1204159ZE184226B<<<<<10"));
    }

    #[test]
    fn issuers_and_impossible_numbers() {
        for card in [
            "4111111111111111",
            "5555555555554444",
            "378282246310005",
            "6011111111111117",
            "3530111333300000",
        ] {
            assert!(is_card(&digits(card)), "{card}");
        }
        for other in ["0000000000000000", "4111111111111112", "9111111111111111", "411111111111111"] {
            assert!(!is_card(&digits(other)), "{other}");
        }
        assert_eq!((iban_length("GB"), iban_length("NO"), iban_length("ZZ")), (Some(22), Some(15), None));
        for ssn in ["000121234", "666121234", "900121234", "123001234", "123120000", "078051120"] {
            assert!(!us_ssn(&digits(ssn)), "{ssn}");
        }
        assert!(us_ssn(&digits("123-12-1234")) && !cpf(&digits("111.111.111-11")));
    }
}
