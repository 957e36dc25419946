//! Event files that TensorBoard reads: scalars of every step, in a file for each process of the run.
//!
//! A file is a sequence of records as TensorFlow frames them (length as `u64`, masked CRC-32C of the length, bytes, masked
//! CRC-32C of the bytes, all little-endian); each holds one `Event` of `tensorflow/core/util/event.proto` in protobuf. The
//! first says `brain.Event:2`. In a resumed run the second says that the session starts at its first step, and TensorBoard
//! forgets what earlier files hold of later steps.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::TrainError;
use crate::log::LogLine;

/// Name of the folder in a run folder.
pub const TENSORBOARD_FOLDER: &str = "tensorboard";

/// An open event file.
#[derive(Debug)]
pub(crate) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Creates the file of this process in a run folder; `step` steps were made before.
    pub fn create(run: &Path, step: u64) -> Result<Self, TrainError> {
        let folder = run.join(TENSORBOARD_FOLDER);
        shakti_checkpoint::files::create_folder(&folder)?;
        let time = wall_time();
        // Read in the order of their names.
        let path = folder.join(format!("events.out.tfevents.{:010}.{step:010}", time as u64));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(TrainError::file(&path, "create"))?;
        let mut events = Self { file, path };
        let mut version = event(time, 0);
        bytes_field(&mut version, FILE_VERSION, b"brain.Event:2");
        events.write(&version)?;
        if step > 0 {
            let mut start = event(time, step + 1);
            bytes_field(&mut start, SESSION_LOG, &[STATUS << 3, STATUS_START]);
            events.write(&start)?;
        }
        Ok(events)
    }

    /// Appends the scalars of a step.
    pub fn step(&mut self, line: &LogLine) -> Result<(), TrainError> {
        let scalars = [
            ("train/loss", Some(line.loss)),
            ("train/learning_rate", Some(line.learning_rate)),
            ("train/grad_norm", Some(line.grad_norm)),
            ("train/tokens_per_s", Some(line.tokens_per_s)),
            ("eval/loss", line.validation_loss),
        ];
        let measures = line.measures.iter().map(|(name, value)| (name.as_str(), Some(*value)));
        let mut summary = Vec::new();
        for (tag, value) in scalars.into_iter().chain(measures) {
            let Some(value) = value else { continue };
            let mut scalar = Vec::new();
            bytes_field(&mut scalar, TAG, tag.as_bytes());
            scalar.push(SIMPLE_VALUE << 3 | FIXED_32);
            scalar.extend((value as f32).to_le_bytes());
            bytes_field(&mut summary, VALUE, &scalar);
        }
        let mut record = event(wall_time(), line.step);
        bytes_field(&mut record, SUMMARY, &summary);
        self.write(&record)
    }

    fn write(&mut self, record: &[u8]) -> Result<(), TrainError> {
        self.file.write_all(&framed(record)).map_err(TrainError::file(&self.path, "write"))
    }
}

/// Fields of `Event`, `SessionLog`, `Summary` and `Summary.Value`.
const WALL_TIME: u8 = 1;
const STEP: u8 = 2;
const FILE_VERSION: u8 = 3;
const SUMMARY: u8 = 5;
const SESSION_LOG: u8 = 7;
const STATUS: u8 = 1;
const STATUS_START: u8 = 1;
const VALUE: u8 = 1;
const TAG: u8 = 1;
const SIMPLE_VALUE: u8 = 2;
/// Wire types of protobuf; 0 is a variable-length number.
const FIXED_64: u8 = 1;
const BYTES: u8 = 2;
const FIXED_32: u8 = 5;

/// Seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The beginning of every event.
fn event(time: f64, step: u64) -> Vec<u8> {
    let mut event = vec![WALL_TIME << 3 | FIXED_64];
    event.extend(time.to_le_bytes());
    event.push(STEP << 3);
    varint(&mut event, step);
    event
}

fn bytes_field(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field << 3 | BYTES);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// A record between its length and its checksums.
fn framed(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u64).to_le_bytes();
    let parts: [&[u8]; 4] =
        [&length, &masked_crc32c(&length).to_le_bytes(), record, &masked_crc32c(record).to_le_bytes()];
    parts.concat()
}

/// CRC-32C (Castagnoli), turned and shifted so that a checksum of data that holds checksums stays useful.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & 0u32.wrapping_sub(crc & 1));
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_published_vectors() {
        // RFC 3720, B.4: 32 zeros, and 32 ones in every bit.
        let unmasked = |bytes: &[u8]| masked_crc32c(bytes).wrapping_sub(0xA282_EAD8).rotate_left(15);
        assert_eq!(unmasked(&[0; 32]), 0x8A91_36AA);
        assert_eq!(unmasked(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(unmasked(b"123456789"), 0xE306_9283);
    }

    /// The bytes that TensorFlow's protobuf writes for the same event.
    #[test]
    fn an_event_is_the_protobuf_of_its_fields() {
        let mut record = event(1.5, 300);
        bytes_field(&mut record, FILE_VERSION, b"v");
        let expected = [9, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F, 16, 0xAC, 2, 26, 1, b'v'];
        assert_eq!(record, expected);
        let framed = framed(&record);
        assert_eq!(framed.len(), record.len() + 16);
        assert_eq!(framed[..8], 15u64.to_le_bytes());
    }
}
