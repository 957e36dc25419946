//! Documents of a `.txt` file.

use super::lines::Lines;
use super::{Located, TextDocuments};
use crate::error::ErrorKind;

const HINT: &str = "separate documents by two blank lines, or read with text_documents = \"blank_line\"";

/// The next document with the line it begins on. Blank lines around it are not part of it.
pub(super) fn read_document(
    lines: &mut Lines,
    rule: TextDocuments,
) -> Result<Option<(u64, String)>, Located> {
    let blank_lines_that_end = match rule {
        TextDocuments::TwoBlankLines => 2,
        TextDocuments::BlankLine => 1,
        TextDocuments::WholeFile => usize::MAX,
    };
    let limit = lines.limit();
    let mut document = String::new();
    let (mut first_line, mut blank) = (0, 0);
    while let Some(line) = lines.next_line()? {
        if line.trim().is_empty() {
            blank += usize::from(!document.is_empty());
            if blank == blank_lines_that_end {
                break;
            }
            continue;
        }
        let breaks = if document.is_empty() { 0 } else { blank + 1 };
        if document.len() + breaks + line.len() > limit {
            return Err((ErrorKind::RecordTooLong { limit, hint: HINT }, first_line.max(1)));
        }
        document.extend(std::iter::repeat_n('\n', breaks));
        blank = 0;
        document.push_str(line);
        if first_line == 0 {
            first_line = lines.line();
        }
    }
    Ok((!document.is_empty()).then_some((first_line, document)))
}
