//! The programs of a cell, their command lines, and what is read of their output.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use shakti_checkpoint::{ModelFile, tokenizer_of_gguf};
use shakti_gguf::GgufFile;
use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_measure::{Limits, find_number, reading_rate};
use shakti_model::Cost;

use crate::Args;
use crate::alternate::{Contestant, Sample, alternate};
use crate::cells::{BATCH_PROMPT, DECODE_TOKENS, DEPTH, Key, PROMPT, SHORT_DECODE, Table};
use crate::limit::MemoryLimit;
use crate::parse::{Reading, json, number};
use crate::process::Program;
use crate::record::{Bound, Cell, Run};

/// Tokens of the text that a whole process reads; a token that begins every text comes on top.
const START_TEXT: usize = 15;

/// A contestant's name, program and reading.
struct Entry {
    family: &'static str,
    name: &'static str,
    program: Program,
    reading: Reading,
}

/// What is known of a file without running it.
struct Facts {
    path: PathBuf,
    weight_bytes: u64,
    /// f16 cache of [`PROMPT`] tokens, which is what the peers make.
    peer_cache_bytes: u64,
    /// Operations of the matrix products of a prompt token, and of a decoded one.
    prompt_ops: f64,
    decode_ops: f64,
    /// A text of [`START_TEXT`] tokens.
    text: String,
}

/// The programs, and the machine's limits as far as they are known.
pub struct Setup<'a> {
    args: &'a Args,
    limits: HashMap<usize, Limits>,
}

impl<'a> Setup<'a> {
    /// Refuses programs that are not there.
    pub fn new(args: &'a Args) -> anyhow::Result<Self> {
        anyhow::ensure!(args.shakti.is_file(), "--shakti: {}: no such file", args.shakti.display());
        for folder in [Some(&args.models), args.llama.as_ref(), args.ik.as_ref()].into_iter().flatten() {
            anyhow::ensure!(folder.is_dir(), "{}: no such folder", folder.display());
        }
        Ok(Self { args, limits: HashMap::new() })
    }

    /// Measures a cell; what cannot run is said in it.
    pub fn measure(&mut self, key: &Key, rounds: u32) -> anyhow::Result<Cell> {
        let path = self.args.models.join(format!("random-{}-{}.gguf", key.model, key.format));
        let facts = match Facts::of(&path) {
            Ok(facts) => facts,
            Err(error) => return Ok(Cell::not_got(key, format!("{error:#}"))),
        };
        let group = match key.table {
            Table::Limit => Some(MemoryLimit::new()),
            _ => None,
        };
        let mut entries = entries(self.args, key, &facts);
        if let Some(group) = &group {
            for entry in &mut entries {
                entry.program = group.wrap(&entry.program);
            }
        }
        let contestant = |entry: &Entry| {
            let line = entry.program.line();
            let Entry { family, name, program, reading } = entry;
            let (program, reading, facts, group) = (program.clone(), *reading, &facts, group.as_ref());
            let (family, name) = (*family, *name);
            Contestant {
                family,
                run: Run::new(name, line),
                sample: Box::new(move || {
                    let mut sample = sample(&program, reading, facts, family == "ours")?;
                    sample.note = group.and_then(MemoryLimit::peak);
                    Ok(sample)
                }),
            }
        };
        let (runs, bytes) = alternate(entries.iter().map(contestant).collect(), rounds, key.table.is_cost());
        let note = group.as_ref().map(|group| group.how().to_owned());
        Ok(Cell { key: key.clone(), runs, bound: self.bound(key, &facts, bytes)?, not_got: None, note })
    }

    fn bound(&mut self, key: &Key, facts: &Facts, bytes: Option<f64>) -> anyhow::Result<Option<Bound>> {
        let operations = match key.table {
            Table::Prefill => facts.prompt_ops,
            Table::Batch8 | Table::Batch32 => facts.decode_ops,
            Table::Decode | Table::Depth => 0.0,
            _ => return Ok(None),
        };
        let cpu = Cpu::detect(Some(key.threads))?;
        if operations > 0.0 {
            let limits = match self.limits.get(&key.threads) {
                Some(limits) => *limits,
                None => *self.limits.entry(key.threads).or_insert(Limits::measure(&cpu)?),
            };
            return Ok(Some(Bound { per_token: operations, limit_per_s: limits.int8_per_s }));
        }
        let Some(bytes) = bytes else { return Ok(None) };
        let limit_per_s = reading_rate(&cpu, DType::Q8_0, bytes as usize)?;
        Ok(Some(Bound { per_token: bytes, limit_per_s }))
    }
}

impl Facts {
    /// Reads the file once, so that it lies in the page cache.
    fn of(path: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        std::io::copy(&mut file, &mut std::io::sink())?;
        let model = ModelFile::open(path)?;
        let config = model.config();
        let cost = Cost::new(config);
        let head = (2 * config.vocab_size * config.hidden_size) as f64;
        let tokenizer = tokenizer_of_gguf(&GgufFile::open(path)?)?;
        let count = |text: &str| {
            let mut ids = Vec::new();
            tokenizer.encode(text, &mut ids);
            ids.len()
        };
        let mut text = "the".to_owned();
        while count(&text) < START_TEXT {
            text.push_str(" patient");
        }
        while count(&text) > START_TEXT {
            text.pop();
        }
        Ok(Self {
            path: path.into(),
            weight_bytes: model.weight_bytes(),
            peer_cache_bytes: Cost::kv_bytes(config, PROMPT),
            prompt_ops: cost.linear_flops_per_token as f64 - head,
            decode_ops: cost.linear_flops_per_token as f64,
            text,
        })
    }
}

/// One run of a program.
fn sample(program: &Program, reading: Reading, facts: &Facts, is_ours: bool) -> anyhow::Result<Sample> {
    let outcome = program.run(reading == Reading::Memory)?;
    let said = if is_ours { json(&outcome.output).unwrap_or_default() } else { Vec::new() };
    let kv_bytes = match find_number(&said, "kv_cache_bytes") {
        Some(bytes) => bytes as u64,
        None => facts.peer_cache_bytes,
    };
    let value = match reading {
        Reading::Seconds => outcome.seconds,
        Reading::Memory => {
            let peak =
                outcome.peak_bytes.context("this system does not say how much memory a process has")?;
            peak as f64 - (facts.weight_bytes + kv_bytes) as f64
        }
        reading => number(reading, &outcome.output)?,
    };
    let is_memory = reading == Reading::Memory;
    let bytes_per_token = find_number(&said, "bytes_read_per_token");
    Ok(Sample { value, kv_bytes: is_memory.then_some(kv_bytes), bytes_per_token, note: None })
}

fn entries(args: &Args, key: &Key, facts: &Facts) -> Vec<Entry> {
    let mut entries = vec![ours(args, key, facts)];
    entries.extend(args.llama.iter().flat_map(|folder| llama(folder, key, facts)));
    entries.extend(args.ik.iter().flat_map(|folder| ik(folder, key, facts)));
    entries
}

fn ours(args: &Args, key: &Key, facts: &Facts) -> Entry {
    let decode = Reading::Key("decode_tokens_per_s");
    let (prompt, generate, depth, batch, reading) = match key.table {
        Table::Depth => (1, SHORT_DECODE, DEPTH, 1, decode),
        Table::Prefill => (PROMPT, 1, 0, 1, Reading::Key("prefill_tokens_per_s")),
        Table::Batch8 => (1, SHORT_DECODE, BATCH_PROMPT, 8, decode),
        Table::Batch32 => (1, SHORT_DECODE, BATCH_PROMPT, 32, decode),
        Table::Memory => (PROMPT, DECODE_TOKENS, 0, 1, Reading::Memory),
        _ => (1, DECODE_TOKENS, 0, 1, decode),
    };
    let threads = key.threads;
    let (arguments, reading) = if key.table == Table::Start {
        (format!("generate --quiet --greedy -n 1 --threads {threads}"), Reading::Seconds)
    } else {
        let cell = format!("--prompt {prompt} --gen {generate} --depth {depth} --batch {batch} --repeat 1");
        (format!("bench --json --quiet --threads {threads} {cell}"), reading)
    };
    let mut program = Program::new(args.shakti.clone(), &arguments).arg("-m").arg(&facts.path);
    if key.table == Table::Start {
        program = program.arg("-p").arg(&facts.text);
    }
    Entry { family: "ours", name: "ours", program, reading }
}

/// Prompt, generated tokens and depth of llama-bench, apart from batches and whole processes.
fn bench_test(table: Table) -> (usize, usize, usize) {
    match table {
        Table::Depth => (0, SHORT_DECODE, DEPTH),
        Table::Prefill => (PROMPT, 0, 0),
        Table::Memory => (PROMPT, DECODE_TOKENS, 0),
        _ => (0, DECODE_TOKENS, 0),
    }
}

fn batch(table: Table) -> Option<usize> {
    match table {
        Table::Batch8 => Some(8),
        Table::Batch32 => Some(32),
        _ => None,
    }
}

fn batched_bench(sequences: usize) -> (String, Reading) {
    let context = sequences * (BATCH_PROMPT + SHORT_DECODE);
    let cell =
        format!("-c {context} -b 2048 -ub 512 -npp {BATCH_PROMPT} -ntg {SHORT_DECODE} -npl {sequences}");
    (cell, Reading::BatchedBench(sequences))
}

fn llama(folder: &Path, key: &Key, facts: &Facts) -> Vec<Entry> {
    let threads = key.threads;
    let family = "llama.cpp";
    let entry = |name, tool: &str, arguments: &str, reading| {
        let arguments = format!("{arguments} -t {threads}");
        let program = Program::new(folder.join(tool), &arguments).arg("-m").arg(&facts.path);
        Entry { family, name, program, reading }
    };
    if let Some(sequences) = batch(key.table) {
        let (cell, reading) = batched_bench(sequences);
        return vec![entry(family, "llama-batched-bench", &cell, reading)];
    }
    let variants = [(family, ""), ("llama.cpp -nr", "--no-repack")];
    if key.table == Table::Start {
        let arguments = "-n 1 -c 256 --no-warmup -no-cnv --temp 0";
        let whole = |(name, flag): (&'static str, &str)| {
            let mut entry = entry(name, "llama-completion", &format!("{arguments} {flag}"), Reading::Seconds);
            entry.program = entry.program.arg("-p").arg(&facts.text);
            entry
        };
        return variants.map(whole).into();
    }
    let (prompt, generate, depth) = bench_test(key.table);
    let test = format!("-p {prompt} -n {generate} -d {depth} -r 1 -o json");
    if key.table == Table::Memory {
        let both = [(variants[0].0, 1), (variants[1].0, 0)];
        let tool = |(name, repack)| {
            entry(name, "llama-bench", &format!("{test} --repack {repack}"), Reading::Memory)
        };
        return both.map(tool).into();
    }
    vec![entry(family, "llama-bench", &test, Reading::LlamaBench(prompt, generate))]
}

fn ik(folder: &Path, key: &Key, facts: &Facts) -> Vec<Entry> {
    let threads = key.threads;
    let entry = |name, tool: &str, arguments: &str, reading| {
        let arguments = format!("{arguments} -t {threads}");
        let program = Program::new(folder.join(tool), &arguments).arg("-m").arg(&facts.path);
        Entry { family: "ik_llama.cpp", name, program, reading }
    };
    let (plain, repacked) = ("ik", "ik rtr");
    if let Some(sequences) = batch(key.table) {
        let (cell, reading) = batched_bench(sequences);
        let tool = |name, flag| entry(name, "llama-batched-bench", &format!("{cell} -fa on {flag}"), reading);
        return vec![tool(repacked, "-rtr"), tool(plain, "")];
    }
    if key.table == Table::Start {
        let arguments = "-n 1 -c 256 --no-warmup --temp 0 --log-disable";
        let mut entry = entry(plain, "llama-cli", arguments, Reading::Seconds);
        entry.program = entry.program.arg("-p").arg(&facts.text);
        return vec![entry];
    }
    let (prompt, generate, depth) = bench_test(key.table);
    let (test, reading) = match key.table {
        // Its `-gp` decodes after a prompt that is not timed.
        Table::Depth => (format!("-p 0 -n 0 -gp {depth},{generate}"), Reading::LlamaBench(depth, generate)),
        Table::Memory => (format!("-p {prompt} -n {generate}"), Reading::Memory),
        _ => (format!("-p {prompt} -n {generate}"), Reading::LlamaBench(prompt, generate)),
    };
    let tool =
        |name, rtr| entry(name, "llama-bench", &format!("{test} -fa 1 -rtr {rtr} -r 1 -o json"), reading);
    vec![tool(repacked, 1), tool(plain, 0)]
}
