//! Lines of bounded length as checked UTF-8, and single bytes for readers that look inside lines.

use super::Located;
use super::open::Compression;
use crate::error::ErrorKind;
use std::io::{self, BufRead};

/// A source of lines or bytes that knows where it stands.
pub(super) struct Lines {
    input: Box<dyn BufRead + Send>,
    compression: Compression,
    limit: usize,
    buffer: Vec<u8>,
    line: u64,
    started: bool,
}

impl Lines {
    pub(super) fn new(input: Box<dyn BufRead + Send>, compression: Compression, limit: usize) -> Self {
        Self { input, compression, limit, buffer: Vec::new(), line: 0, started: false }
    }

    /// Longest record accepted, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// 1-based number of the line last returned, or that the last byte stood on.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The next line without its end (`\n` or `\r\n`), or `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> Result<Option<&str>, Located> {
        self.skip_mark()?;
        self.line += 1;
        self.buffer.clear();
        loop {
            let available = self.fill()?;
            if available.is_empty() {
                break;
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let take = end.map_or(available.len(), |end| end + 1);
            // Two bytes more than the limit may be the line's end.
            if self.buffer.len() + take > self.limit.saturating_add(2) {
                return Err((ErrorKind::RecordTooLong { limit: self.limit, hint: "" }, self.line));
            }
            let (input, buffer) = (&mut self.input, &mut self.buffer);
            let available = input.fill_buf().map_err(|error| (self.compression.error(error), self.line))?;
            buffer.extend_from_slice(&available[..take]);
            input.consume(take);
            if end.is_some() {
                break;
            }
        }
        if self.buffer.is_empty() {
            self.line -= 1;
            return Ok(None);
        }
        let mut line = self.buffer.as_slice();
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.limit {
            return Err((ErrorKind::RecordTooLong { limit: self.limit, hint: "" }, self.line));
        }
        match std::str::from_utf8(line) {
            Ok(line) => Ok(Some(line)),
            Err(error) => Err((ErrorKind::InvalidUtf8 { byte: error.valid_up_to() }, self.line)),
        }
    }

    /// The next byte without taking it.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, Located> {
        if !self.started {
            self.skip_mark()?;
            self.line = 1;
        }
        Ok(self.fill()?.first().copied())
    }

    /// Takes the byte that [`Lines::peek`] showed.
    pub(super) fn advance(&mut self, byte: u8) {
        self.input.consume(1);
        self.line += u64::from(byte == b'\n');
    }

    /// Takes bytes up to and including the first that `is_last` says yes to; whether there was one.
    pub(super) fn take_through(
        &mut self,
        mut is_last: impl FnMut(u8) -> bool,
        taken: &mut Vec<u8>,
    ) -> Result<bool, Located> {
        let first_line = self.line;
        loop {
            let limit = self.limit;
            let available = self.fill()?;
            if available.is_empty() {
                return Ok(false);
            }
            let last = available.iter().position(|&byte| is_last(byte));
            let part = &available[..last.map_or(available.len(), |last| last + 1)];
            if taken.len() + part.len() > limit {
                return Err((ErrorKind::RecordTooLong { limit, hint: "" }, first_line));
            }
            taken.extend_from_slice(part);
            let (len, breaks) = (part.len(), part.iter().filter(|&&byte| byte == b'\n').count());
            self.input.consume(len);
            self.line += breaks as u64;
            if last.is_some() {
                return Ok(true);
            }
        }
    }

    /// Skips a UTF-8 byte order mark at the start of the file and refuses a UTF-16 one.
    fn skip_mark(&mut self) -> Result<(), Located> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        let start = self.fill()?;
        if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
            return Err((ErrorKind::Utf16, 1));
        }
        if start.starts_with(&[0xEF, 0xBB, 0xBF]) {
            self.input.consume(3);
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<&[u8], Located> {
        let line = self.line.max(1);
        let compression = self.compression;
        loop {
            match self.input.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((compression.error(error), line)),
            }
        }
        self.input.fill_buf().map_err(|error| (compression.error(error), line))
    }
}
