//! Opens vocabularies as a chat does: milliseconds to open and to encode and decode for the first time, then megabytes
//! per second, as one JSON object; `tokenizers` does the same with every `tokenizer.json` in the same rounds.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Parser;
use serde::Serialize;
use shakti_checkpoint::{is_gguf, tokenizer_of_gguf};
use shakti_gguf::GgufFile;
use shakti_measure::{Spread, processor};
use shakti_tokenizer::Tokenizer;

/// The vocabularies, and how often to open them.
#[derive(Debug, Parser)]
struct Args {
    /// GGUF files and tokenizer.json files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Text to encode, line by line
    #[arg(long)]
    text: PathBuf,
    /// Times that each file is opened
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Leave the peer out
    #[arg(long)]
    no_peer: bool,
}

/// What one reader took, in milliseconds and millions of bytes per second.
#[derive(Debug, Default)]
struct Times {
    open_ms: Vec<f64>,
    first_encode_ms: Vec<f64>,
    first_decode_ms: Vec<f64>,
    encode_mb_s: Vec<f64>,
    num_ids: usize,
}

#[derive(Debug, Serialize)]
struct Report {
    open_ms: Spread,
    first_encode_ms: Spread,
    first_decode_ms: Spread,
    encode_mb_s: Spread,
    num_ids: usize,
}

#[derive(Debug, Serialize)]
struct FileReport {
    file: String,
    vocab_size: usize,
    rounds: usize,
    ours: Report,
    tokenizers: Option<Report>,
}

const FIRST: &str = "What are the symptoms of diabetes, and how is it treated?";

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

impl Times {
    /// One round: opens, encodes and decodes a sentence, then encodes `text`.
    fn round<T>(
        &mut self,
        text: &str,
        open: impl FnOnce() -> anyhow::Result<T>,
        encode: impl Fn(&T, &str) -> anyhow::Result<Vec<u32>>,
        decode: impl Fn(&T, &[u32]) -> anyhow::Result<String>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        let tokenizer = open()?;
        self.open_ms.push(ms(start));
        let start = Instant::now();
        let ids = encode(&tokenizer, FIRST)?;
        self.first_encode_ms.push(ms(start));
        let start = Instant::now();
        let back = decode(&tokenizer, &ids)?;
        self.first_decode_ms.push(ms(start));
        anyhow::ensure!(back == FIRST, "{FIRST:?} came back as {back:?}");
        let start = Instant::now();
        self.num_ids = 0;
        for line in text.lines() {
            self.num_ids += encode(&tokenizer, line)?.len();
        }
        self.encode_mb_s.push(text.len() as f64 / 1e3 / ms(start));
        Ok(tokenizer)
    }

    fn report(&self) -> Report {
        Report {
            open_ms: Spread::of(&self.open_ms),
            first_encode_ms: Spread::of(&self.first_encode_ms),
            first_decode_ms: Spread::of(&self.first_decode_ms),
            encode_mb_s: Spread::of(&self.encode_mb_s),
            num_ids: self.num_ids,
        }
    }
}

fn open(file: &Path) -> anyhow::Result<Tokenizer> {
    if is_gguf(file) { Ok(tokenizer_of_gguf(&GgufFile::open(file)?)?) } else { Ok(Tokenizer::open(file)?) }
}

fn encode(tokenizer: &Tokenizer, text: &str) -> anyhow::Result<Vec<u32>> {
    let mut ids = Vec::new();
    tokenizer.encode(text, &mut ids);
    Ok(ids)
}

fn measure(file: &Path, text: &str, rounds: usize, has_peer: bool) -> anyhow::Result<FileReport> {
    let (mut ours, mut peer) = (Times::default(), Times::default());
    let mut vocab_size = 0;
    for _ in 0..rounds {
        let decode = |tokenizer: &Tokenizer, ids: &[u32]| Ok(tokenizer.decode(ids));
        vocab_size = ours.round(text, || open(file), encode, decode)?.vocab_size();
        if has_peer {
            peer.round(
                text,
                || tokenizers::Tokenizer::from_file(file).map_err(|error| anyhow!(error)),
                |tokenizer, text| {
                    let encoded = tokenizer.encode_fast(text, false).map_err(|error| anyhow!(error))?;
                    Ok(encoded.get_ids().to_vec())
                },
                |tokenizer, ids| tokenizer.decode(ids, false).map_err(|error| anyhow!(error)),
            )?;
            anyhow::ensure!(ours.num_ids == peer.num_ids, "{} ids and {}", ours.num_ids, peer.num_ids);
        }
    }
    let tokenizers = has_peer.then(|| peer.report());
    Ok(FileReport { file: file.display().to_string(), vocab_size, rounds, ours: ours.report(), tokenizers })
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let text = std::fs::read_to_string(&args.text).with_context(|| args.text.display().to_string())?;
    let files: Vec<FileReport> = args
        .files
        .iter()
        .map(|file| measure(file, &text, args.rounds, !args.no_peer && !is_gguf(file)))
        .collect::<anyhow::Result<_>>()?;
    let report = serde_json::json!({ "processor": processor(), "text_bytes": text.len(), "files": files });
    println!("{report:#}");
    Ok(())
}
