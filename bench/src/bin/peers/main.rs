//! The engine beside llama.cpp and ik_llama.cpp on the same files, in alternation: the tables of speed, start and memory.
//!
//! Every cell (a table, a model, a format, a number of threads) runs its programs in turn, A B C A B C, each in a process of
//! its own. Results go to a JSON file after each cell, and a later call with the same file goes on where this one stopped.

mod alternate;
mod cells;
mod limit;
mod parse;
mod process;
mod programs;
mod record;
mod tables;
mod twins;
mod verdict;

use std::path::PathBuf;

use clap::Parser;

use crate::cells::{Key, Table, keys};
use crate::programs::Setup;
use crate::record::Record;

/// What to measure, and with what.
#[derive(Debug, Parser)]
pub struct Args {
    /// Our program, built for release
    #[arg(long, value_name = "PATH")]
    shakti: PathBuf,
    /// Folder of llama.cpp's programs: llama-bench, llama-batched-bench, llama-completion
    #[arg(long, value_name = "DIR")]
    llama: Option<PathBuf>,
    /// Folder of ik_llama.cpp's programs: llama-bench, llama-batched-bench, llama-cli
    #[arg(long, value_name = "DIR")]
    ik: Option<PathBuf>,
    /// Folder of the files, named random-SIZE-FORMAT.gguf
    #[arg(long, value_name = "DIR")]
    models: PathBuf,
    /// Models
    #[arg(long, value_delimiter = ',', default_value = "100m,250m,500m")]
    sizes: Vec<String>,
    /// Formats
    #[arg(long, value_delimiter = ',', default_value = "q4_0,q4_k_m,q5_0,q5_k_m,q8_0")]
    formats: Vec<String>,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Rounds of every cell
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Tables: decode, depth, prefill, batch, start, memory, twins, limit
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "decode,depth,prefill,batch,start,memory,twins,limit"
    )]
    tables: Vec<String>,
    /// Only cells whose name holds one of these, e.g. decode/100m/q4_0/2
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<String>,
    /// Results; cells that stand there are not measured again
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure nothing, print the tables of --json
    #[arg(long, requires = "json")]
    print: bool,
}

impl Args {
    fn make_paths_absolute(&mut self) -> std::io::Result<()> {
        let paths = [&mut self.shakti, &mut self.models].into_iter();
        for path in paths.chain(&mut self.llama).chain(&mut self.ik).chain(&mut self.json) {
            *path = std::path::absolute(&*path)?;
        }
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    args.make_paths_absolute()?;
    // Some peers write logs where they are started.
    let folder = tempfile::tempdir()?;
    std::env::set_current_dir(folder.path())?;
    let mut record = Record::open(args.json.as_deref())?;
    let wanted = keys(&args)?;
    if !args.print {
        let mut setup = Setup::new(&args)?;
        let missing: Vec<&Key> = wanted.iter().filter(|key| record.cell(key).is_none()).collect();
        for (index, key) in missing.iter().enumerate() {
            eprintln!("{} of {}: {key}", index + 1, missing.len());
            let cell = match key.table {
                Table::TwinsDecode | Table::TwinsPrefill => twins::measure(key, args.rounds)?,
                _ => setup.measure(key, args.rounds)?,
            };
            for run in &cell.runs {
                eprintln!("    {}", run.line(cell.key.table));
            }
            record.push(cell);
            record.save(args.json.as_deref())?;
        }
    }
    println!("{}", tables::text(&record, &wanted));
    Ok(())
}
