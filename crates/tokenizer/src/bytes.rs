//! The 256 characters that stand for bytes in the token strings of byte-level vocabularies (GPT-2's table).

/// Character that stands for `byte`: itself where it is printable and no space, else U+0100 onwards.
pub(crate) const fn byte_to_char(byte: u8) -> char {
    let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = if printable { byte as u32 } else { 0x100 + rank_of_unprintable(byte) };
    match char::from_u32(code) {
        Some(c) => c,
        None => char::REPLACEMENT_CHARACTER,
    }
}

const fn rank_of_unprintable(byte: u8) -> u32 {
    match byte {
        0..=0x20 => byte as u32,
        0x7F..=0xA0 => 33 + (byte - 0x7F) as u32,
        _ => 67,
    }
}

/// Byte that `c` stands for.
pub(crate) const fn char_to_byte(c: char) -> Option<u8> {
    match c as u32 {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121) as u8 + 0x7F),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// `bytes` spelled with the characters that stand for them.
pub(crate) fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| byte_to_char(byte)).collect()
}

/// Appends the bytes `text` stands for; `false`, and nothing appended, if a character stands for none.
pub(crate) fn unspell(text: &str, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut rest = text;
    loop {
        // most characters are ASCII and stand for themselves
        let run = rest.bytes().position(|byte| !byte.is_ascii_graphic()).unwrap_or(rest.len());
        out.extend_from_slice(&rest.as_bytes()[..run]);
        let mut chars = rest[run..].chars();
        let Some(c) = chars.next() else { return true };
        let Some(byte) = char_to_byte(c) else {
            out.truncate(start);
            return false;
        };
        out.push(byte);
        rest = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_and_bytes_are_one_to_one() {
        let mut seen = std::collections::HashSet::new();
        for byte in 0..=255_u8 {
            let c = byte_to_char(byte);
            assert!(seen.insert(c));
            assert_eq!(char_to_byte(c), Some(byte));
        }
        assert_eq!(spell(b" \n\xAD\x7F"), "ĠĊŃġ");
        assert_eq!(char_to_byte('\u{144}'), None);
    }
}
