//! Opens a file and undoes its compression, checked against the first bytes and not the name alone.

use super::Container;
use crate::error::ErrorKind;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const GZIP_MAGIC: &[u8] = &[0x1F, 0x8B];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];
/// Largest zstd window accepted, as a power of two: 128 MiB, the format's recommended limit for decoders.
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER_BYTES: usize = 64 << 10;

/// Compression around a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// `.gz`, possibly several members.
    Gzip,
    /// `.zst`, possibly several frames.
    Zstd,
}

impl Compression {
    fn magic(self) -> &'static [u8] {
        match self {
            Self::None => &[],
            Self::Gzip => GZIP_MAGIC,
            Self::Zstd => ZSTD_MAGIC,
        }
    }

    /// The format's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What an I/O error while reading through this compression means.
    pub(crate) fn error(self, error: io::Error) -> ErrorKind {
        if self == Self::None || error.raw_os_error().is_some() {
            ErrorKind::Io(error)
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            ErrorKind::Truncated(self.name())
        } else {
            ErrorKind::Corrupt { format: self.name(), problem: error.to_string() }
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The compression that a name's ending means, and the ending before it, in lower case without the dot.
pub(crate) fn endings(path: &Path) -> (Compression, String) {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let (stem, compression) = if let Some(stem) = name.strip_suffix(".gz") {
        (stem, Compression::Gzip)
    } else if let Some(stem) = name.strip_suffix(".zst") {
        (stem, Compression::Zstd)
    } else {
        (name.as_str(), Compression::None)
    };
    (compression, stem.rsplit_once('.').map(|(_, ending)| ending.to_owned()).unwrap_or_default())
}

/// Decides from the name what a file is.
///
/// # Errors
/// An ending that says nothing to this crate.
pub fn kind_of(path: &Path) -> Result<(Compression, Container), ErrorKind> {
    let (compression, ending) = endings(path);
    let container = match ending.as_str() {
        "txt" => Container::Text,
        "jsonl" | "ndjson" => Container::JsonLines,
        "json" => Container::Json,
        _ => return Err(ErrorKind::UnknownFormat),
    };
    Ok((compression, container))
}

/// Counts the bytes that are read.
struct Counted {
    file: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens the file for reading its decompressed bytes; `bytes_read` counts those taken from the file.
pub(crate) fn open(
    path: &Path,
    compression: Compression,
    bytes_read: Arc<AtomicU64>,
) -> Result<Box<dyn BufRead + Send>, ErrorKind> {
    let file = File::open(path).map_err(ErrorKind::Io)?;
    if file.metadata().map_err(ErrorKind::Io)?.is_dir() {
        return Err(ErrorKind::Io(io::ErrorKind::IsADirectory.into()));
    }
    let mut file = BufReader::with_capacity(BUFFER_BYTES, Counted { file, bytes: bytes_read });
    let magic = compression.magic();
    let mut start = Vec::new();
    file.by_ref().take(magic.len() as u64).read_to_end(&mut start).map_err(ErrorKind::Io)?;
    if start.is_empty() && !magic.is_empty() {
        return Err(ErrorKind::Empty);
    }
    if start != magic {
        let short = start.len() < magic.len() && magic.starts_with(&start);
        return Err(match short {
            true => ErrorKind::Truncated(compression.name()),
            false => ErrorKind::Compression { expected: compression.name() },
        });
    }
    let file = BufReader::with_capacity(BUFFER_BYTES, io::Cursor::new(start).chain(file));
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, flate2::bufread::MultiGzDecoder::new(file)))
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(file).map_err(ErrorKind::Io)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(ErrorKind::Io)?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
    })
}
