//! What was decided: the global flags resolved once, before a command runs.

use std::path::Path;
use std::sync::Arc;

use shakti_engine::{LoadOptions, Model};
use shakti_kernels::{Cpu, KernelSet};

use crate::args::GlobalArgs;
use crate::failure::Failure;
use crate::output::Output;

/// Decisions that every command shares.
#[derive(Debug)]
pub struct Settings {
    /// Where results and notes go.
    pub output: Output,
    /// The functions that compute.
    pub kernels: &'static KernelSet,
    /// Numbers of threads, at least one and none above what the system offers; several where a command measures each.
    pub threads: Vec<usize>,
}

impl Settings {
    /// Resolves the global flags; `several_threads` says whether the command takes more than one `--threads`.
    ///
    /// # Errors
    /// A kernel set that does not exist or that this CPU cannot run, more numbers of threads than the command takes.
    pub fn new(args: &GlobalArgs, several_threads: bool) -> Result<Self, Failure> {
        let kernels = match &args.kernels {
            Some(name) => KernelSet::by_name(name)?,
            None => KernelSet::best()?,
        };
        let output = Output::new(args.json, args.quiet);
        let offered = shakti_kernels::offered_threads();
        let mut threads = Vec::with_capacity(args.threads.len().max(1));
        for asked in args.threads.iter().copied().map(usize::from) {
            if asked > offered {
                output.warn(format!(
                    "--threads {asked}: the system offers {offered} cores, so {offered} threads compute"
                ));
            }
            threads.push(asked.min(offered));
        }
        if threads.is_empty() {
            threads.push(offered);
        }
        if threads.len() > 1 && !several_threads {
            return Err(Failure::bad_input(format!(
                "--threads: expected one number, found {}",
                threads.len()
            )));
        }
        Ok(Self { output, kernels, threads })
    }

    /// Kernels and threads to compute with.
    pub fn cpu(&self) -> Arc<Cpu> {
        Arc::new(Cpu::new(self.kernels, self.threads[0]))
    }

    /// Opens a model, and an adapter beside it, with these kernels and threads.
    ///
    /// # Errors
    /// Names the file and what cannot be used in it.
    pub fn open_model(
        &self,
        (path, adapter): (&Path, Option<&Path>),
        options: LoadOptions,
    ) -> Result<Arc<Model>, Failure> {
        self.check_exists(path)?;
        let model = Arc::new(Model::open_adapted(path, adapter, self.cpu(), options)?);
        self.check_screen(&model, options);
        Ok(model)
    }

    /// Says so where a copy of the head was asked for and none was made.
    pub fn check_screen(&self, model: &Model, options: LoadOptions) {
        if options.head_screen && model.network().head_screen().is_none() {
            self.output
                .warn("--head-screen: the output head is not Q8_0 or Q6_K, a copy of it would save nothing");
        }
    }

    /// Says what a model is where there is none.
    ///
    /// # Errors
    /// There is nothing at this path.
    pub fn check_exists(&self, path: &Path) -> Result<(), Failure> {
        if path.exists() {
            return Ok(());
        }
        let failure = Failure::bad_input(format!("{}: no such file or folder", path.display()));
        Err(failure.hint("a model is a GGUF file or a checkpoint folder"))
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
