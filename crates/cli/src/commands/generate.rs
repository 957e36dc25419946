//! `shakti generate`: continue a text.

use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use shakti_engine::{
    CacheMode, EngineError, GenerateOptions, Generation, LoadOptions, Model, Session, generate,
};

use crate::args::model::{ModelArg, ServeArgs};
use crate::args::sampling::SamplingArgs;
use crate::failure::{Failure, FailureExt};
use crate::interrupt::Listener;
use crate::settings::Settings;
use crate::stats;

/// Continue a text; standard output gets the continuation alone
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  shakti generate -m out/quickstart/model-q8_0.gguf -p \"Asthma is\" -n 32 --greedy"
)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    serve: ServeArgs,
    /// The text to continue
    #[arg(short, long, value_name = "TEXT", required_unless_present = "file")]
    prompt: Option<String>,
    /// Read the text to continue from a file; - is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt")]
    file: Option<PathBuf>,
    /// Most new tokens [default: 256, or as many as the context leaves]
    #[arg(short = 'n', long = "max-new-tokens", value_name = "N")]
    max_new_tokens: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Tokens of prompt and answer together [default: what the model was trained for]
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Go on past the context in flat memory: the first 4 tokens and the last --context stay in view
    #[arg(long)]
    stream_context: bool,
}

/// Bytes of a text that a few passes over the weights read.
const SHORT_TEXT: usize = 1024;

/// New tokens for which repacking the weights takes longer than it saves.
const FEW_TOKENS: usize = 4;

/// New tokens where none are asked for.
const DEFAULT_NEW_TOKENS: usize = 256;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    generation: &'a Generation,
    seed: u64,
    rates: stats::Rates,
    peak_memory_bytes: Option<u64>,
}

/// Runs the command.
pub fn run(args: &GenerateArgs, settings: &Settings) -> Result<(), Failure> {
    let output = settings.output;
    let text = args.text()?;
    let one_short_text = text.len() <= SHORT_TEXT;
    let few_tokens = one_short_text && args.max_new_tokens.is_some_and(|tokens| tokens <= FEW_TOKENS);
    let options = LoadOptions { one_short_text, few_tokens, ..args.serve.options() };
    let model = settings.open_model((args.model.path(), args.model.adapter()), options)?;
    let prompt = model.encode_text(&text)?;
    let context = settings.context(&model, args.context)?;
    let mut session = args.session(&model, context, prompt.len());
    let options = GenerateOptions {
        max_new_tokens: args.new_tokens(context, prompt.len()),
        sampler: args.sampling.resolve(),
        stop_strings: args.sampling.stop.clone(),
        ignore_eos: args.sampling.ignore_eos,
    };
    let interrupt = Listener::new();
    let mut on_piece = |piece: &str| {
        output.piece(piece)?;
        Ok(if interrupt.requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let generation = match generate(&model, &mut session, &prompt, &options, &mut on_piece) {
        Ok(generation) => generation,
        Err(error @ EngineError::ContextOverflow { .. }) => {
            return Err(error)
                .hint("ask for fewer tokens with -n, shorten the text, or go on with --stream-context");
        }
        Err(error) => return Err(error.into()),
    };
    let was_interrupted = interrupt.requested();
    output.piece("\n")?;
    let report = Report {
        generation: &generation,
        seed: options.sampler.seed,
        rates: stats::Rates::of(&generation.stats),
        peak_memory_bytes: shakti_measure::peak_memory_bytes(),
    };
    output.object(&report)?;
    output.note(stats::line(&generation, options.sampler.seed));
    if was_interrupted {
        return Err(Failure::interrupted("the text up to here was printed"));
    }
    Ok(())
}

impl GenerateArgs {
    fn text(&self) -> Result<String, Failure> {
        let Some(path) = &self.file else { return Ok(self.prompt.clone().unwrap_or_default()) };
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
            return Ok(text);
        }
        std::fs::read_to_string(path).context(format!("{}: cannot read the text", path.display()))
    }

    /// A number asked for is kept, and refused where it does not fit; the default gives way.
    fn new_tokens(&self, context: usize, prompt: usize) -> Option<usize> {
        match (self.max_new_tokens, self.stream_context) {
            (Some(asked), _) => Some(asked),
            (None, true) => Some(DEFAULT_NEW_TOKENS),
            (None, false) => Some(DEFAULT_NEW_TOKENS.min(context.saturating_sub(prompt)).max(1)),
        }
    }

    fn session(&self, model: &Arc<Model>, context: usize, prompt: usize) -> Session {
        let mode = if self.stream_context {
            CacheMode::Streaming { window: context }
        } else {
            // Memory for what can happen, not for the whole context.
            let wanted = prompt + self.max_new_tokens.unwrap_or(DEFAULT_NEW_TOKENS);
            CacheMode::Bounded { max_seq_len: context.min(wanted.max(1)) }
        };
        Session::new(model.network(), mode)
    }
}
