//! What was decided: the global flags resolved once, before a command runs.

use std::path::Path;
use std::sync::Arc;

use shakti_engine::Model;
use shakti_kernels::{Cpu, KernelSet};

use crate::args::GlobalArgs;
use crate::failure::Failure;
use crate::output::Output;

/// Decisions that every command shares.
#[derive(Debug)]
pub struct Settings {
    /// Where results and notes go.
    pub output: Output,
    kernels: &'static KernelSet,
    threads: usize,
}

impl Settings {
    /// Resolves the global flags.
    ///
    /// # Errors
    /// A kernel set that does not exist or that this CPU cannot run.
    pub fn new(args: &GlobalArgs) -> Result<Self, Failure> {
        let kernels = match &args.kernels {
            Some(name) => KernelSet::by_name(name)?,
            None => KernelSet::best()?,
        };
        let offered = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = args.threads.map_or_else(offered, usize::from);
        Ok(Self { output: Output::new(args.json, args.quiet), kernels, threads })
    }

    /// Kernels and threads to compute with.
    pub fn cpu(&self) -> Arc<Cpu> {
        Arc::new(Cpu::new(self.kernels, self.threads))
    }

    /// Opens a model with these kernels and threads.
    ///
    /// # Errors
    /// Names the file and what cannot be used in it.
    pub fn open_model(&self, path: &Path) -> Result<Arc<Model>, Failure> {
        if !path.exists() {
            let failure = Failure::bad_input(format!("{}: no such file or folder", path.display()));
            return Err(failure.hint("a model is a GGUF file or a checkpoint folder"));
        }
        Ok(Arc::new(Model::open(path, self.cpu())?))
    }

    /// The context decided for a model: what was asked for, or what the model was trained for. More than that is
    /// allowed, with a warning.
    ///
    /// # Errors
    /// A context of no tokens.
    pub fn context(&self, model: &Model, asked: Option<usize>) -> Result<usize, Failure> {
        let trained = model.config().max_position_embeddings;
        let context = asked.unwrap_or(trained.min(LARGEST_DEFAULT_CONTEXT));
        if context == 0 {
            return Err(Failure::bad_input("--context 0: expected at least 1 token"));
        }
        if context > trained {
            self.output.warn(format!("a context of {context} tokens; the model was trained for {trained}"));
        }
        Ok(context)
    }
}

/// Models trained for more would reserve gigabytes for keys and values that most conversations never need.
const LARGEST_DEFAULT_CONTEXT: usize = 8192;
