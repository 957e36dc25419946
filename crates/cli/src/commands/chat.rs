//! `shakti chat`: a conversation in the terminal, or with piped standard input one question a line.

use std::io::{BufRead as _, IsTerminal as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use shakti_engine::{Answer, Chat, EngineError, GenerateOptions};

use crate::args::model::{ModelArg, ServeArgs};
use crate::args::sampling::SamplingArgs;
use crate::failure::{Failure, FailureExt};
use crate::interrupt::Listener;
use crate::settings::Settings;
use crate::stats;

/// Talk with a model; one question a line
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  shakti chat -m out/quickstart/model-q8_0.gguf")]
pub struct ChatArgs {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    serve: ServeArgs,
    /// A text that frames the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Ask about this text; it must fit the context
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// Most tokens of an answer
    #[arg(short = 'n', long = "max-new-tokens", value_name = "N", default_value_t = 512)]
    max_new_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Tokens of the whole conversation [default: what the model was trained for]
    #[arg(long, value_name = "N")]
    context: Option<usize>,
}

const HELP: &str = "\
/system TEXT  frame the conversation by TEXT (without TEXT: no frame)
/reset        forget the conversation, keep the frame and the document
/help         this list
/exit         end (as does the end of input)
Ctrl-C        stop the answer; at the prompt, end";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Question(&'a str),
    System(Option<&'a str>),
    Reset,
    Help,
    Exit,
    Unknown(&'a str),
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => Self::Nothing,
            "/system" => Self::System(Some(rest.trim()).filter(|text| !text.is_empty())),
            "/reset" => Self::Reset,
            "/help" => Self::Help,
            "/exit" | "/quit" => Self::Exit,
            _ if word.starts_with('/') => Self::Unknown(word),
            _ => Self::Question(line),
        }
    }
}

/// What `--json` prints at the end.
#[derive(Default, Serialize)]
struct Report {
    turns: Vec<TurnReport>,
    peak_memory_bytes: Option<u64>,
}

#[derive(Serialize)]
struct TurnReport {
    question: String,
    answer: Answer,
    rates: stats::Rates,
}

/// The conversation and how it is held.
struct Conversation<'a> {
    chat: Chat,
    options: GenerateOptions,
    settings: &'a Settings,
    document: Option<String>,
    system: Option<String>,
    report: Report,
}

/// Runs the command.
pub fn run(args: &ChatArgs, settings: &Settings) -> Result<(), Failure> {
    let document = args.document.as_deref().map(read_document).transpose()?;
    let model = settings.open_model((args.model.path(), args.model.adapter()), args.serve.options())?;
    let context = settings.context(&model, args.context)?;
    let chat = Chat::new(&model, context).hint("`shakti generate` continues a text without one")?;
    let options = GenerateOptions {
        max_new_tokens: Some(args.max_new_tokens),
        sampler: args.sampling.resolve(),
        stop_strings: args.sampling.stop.clone(),
        ignore_eos: args.sampling.ignore_eos,
    };
    let mut conversation =
        Conversation { chat, options, settings, document, system: None, report: Report::default() };
    let framed = conversation.set_system(args.system.clone());
    match &args.document {
        Some(path) => framed.context(format!("{}: the document does not fit", path.display()))?,
        None => framed?,
    }
    conversation.hold()
}

fn read_document(path: &Path) -> Result<String, Failure> {
    let text =
        std::fs::read_to_string(path).context(format!("{}: cannot read the document", path.display()))?;
    if text.trim().is_empty() {
        return Err(Failure::bad_input(format!("{}: the document has no text", path.display())));
    }
    Ok(text)
}

impl Conversation<'_> {
    fn hold(mut self) -> Result<(), Failure> {
        let output = self.settings.output;
        let is_terminal = std::io::stdin().is_terminal();
        if is_terminal {
            output.note("/help lists the commands, /exit ends");
        }
        let mut input = std::io::stdin().lock();
        let mut line = String::new();
        loop {
            if is_terminal {
                output.prompt("> ");
            }
            line.clear();
            if input.read_line(&mut line).context("reading a question from standard input")? == 0 {
                break;
            }
            match Line::parse(&line) {
                Line::Nothing => {}
                Line::Exit => break,
                Line::Help => output.note(HELP),
                Line::Reset => self.chat.reset(),
                Line::Unknown(word) => output.warn(format!("no command {word}; /help lists them")),
                Line::System(text) => self.frame(text)?,
                Line::Question(question) => self.ask(question)?,
            }
        }
        self.report.peak_memory_bytes = shakti_measure::peak_memory_bytes();
        Ok(output.object(&self.report)?)
    }

    fn ask(&mut self, question: &str) -> Result<(), Failure> {
        let output = self.settings.output;
        let interrupt = Listener::new();
        let mut started = false;
        let mut on_piece = |piece: &str| {
            // Vocabularies that mark words by a space before them begin an answer with one.
            let piece = if started { piece } else { piece.trim_start() };
            started |= !piece.is_empty();
            output.piece(piece)?;
            Ok(if interrupt.requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let answer = match self.chat.ask(question, &self.options, &mut on_piece) {
            Ok(answer) => answer,
            Err(error @ EngineError::ContextOverflow { .. }) => {
                output.warn(error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        output.piece("\n")?;
        if answer.forgotten_turns > 0 {
            output.note(format!(
                "[the context is full: the {} oldest turns were forgotten]",
                answer.forgotten_turns
            ));
        }
        output.note(stats::line(&answer.generation, self.options.sampler.seed));
        if output.is_json() {
            let rates = stats::Rates::of(&answer.generation.stats);
            self.report.turns.push(TurnReport { question: question.to_owned(), answer, rates });
        }
        Ok(())
    }

    /// `/system`: a text that does not fit is told, and the old one stays.
    fn frame(&mut self, text: Option<&str>) -> Result<(), Failure> {
        let old = self.system.clone();
        if let Err(error) = self.set_system(text.map(str::to_owned)) {
            self.settings.output.warn(error);
            self.set_system(old)?;
        }
        Ok(())
    }

    fn set_system(&mut self, system: Option<String>) -> Result<(), Failure> {
        let parts: Vec<&str> = system.as_deref().into_iter().chain(self.document.as_deref()).collect();
        let text = (!parts.is_empty()).then(|| parts.join("\n\n"));
        let result = self.chat.set_system(text);
        let hint = match &self.document {
            Some(_) => "shorten the document, or raise --context if the model was trained for more",
            None => "shorten the system message",
        };
        result.hint(hint)?;
        self.system = system;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_questions() {
        assert_eq!(Line::parse("  What is asthma? \n"), Line::Question("What is asthma?"));
        assert_eq!(Line::parse("/system You are brief.\n"), Line::System(Some("You are brief.")));
        assert_eq!(Line::parse("/system  \n"), Line::System(None));
        assert_eq!(Line::parse("/reset\n"), Line::Reset);
        assert_eq!(Line::parse("/exit"), Line::Exit);
        assert_eq!(Line::parse("/halp me"), Line::Unknown("/halp"));
        assert_eq!(Line::parse("\n"), Line::Nothing);
    }
}
