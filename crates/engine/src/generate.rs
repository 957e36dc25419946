//! The loop from a prompt to an answer: feed, sample, look for a stop, give out text.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;
use shakti_model::CacheMode;
use shakti_tokenizer::Utf8Stream;

use crate::EngineError;
use crate::model::Model;
use crate::sampler::{Sampler, SamplerOptions};
use crate::session::{Session, feed_batch};
use crate::stop::StopStrings;

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Most new tokens; `None` goes on until the context is full (an endless stream: until a stop).
    pub max_new_tokens: Option<usize>,
    /// How to pick tokens.
    pub sampler: SamplerOptions,
    /// Strings that end the text and are not part of it.
    pub stop_strings: Vec<String>,
    /// Whether to go on after the tokens that end a text.
    pub ignore_eos: bool,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StopReason {
    /// A token that ends a text or a turn.
    EndToken {
        /// Its id.
        id: u32,
    },
    /// A stop string.
    StopString {
        /// The string.
        text: String,
    },
    /// As many tokens as were asked for.
    Length,
    /// The context holds no more.
    ContextFull,
    /// The receiver asked to stop.
    Cancelled,
}

/// How fast it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct GenerationStats {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that were still in the cache.
    pub reused_tokens: usize,
    /// Tokens sampled, the one that ended the text included.
    pub new_tokens: usize,
    /// Seconds from the start to the scores of the first token.
    pub prefill_seconds: f64,
    /// Seconds from the start to the first sampled token.
    pub time_to_first_token_seconds: f64,
    /// Seconds from the first sampled token to the last.
    pub decode_seconds: f64,
    /// Bytes of keys and values.
    pub kv_cache_bytes: usize,
}

impl GenerationStats {
    /// Prompt tokens computed per second.
    pub fn prefill_tokens_per_second(&self) -> Option<f64> {
        rate(self.prompt_tokens - self.reused_tokens, self.prefill_seconds)
    }

    /// Tokens after the first per second.
    pub fn decode_tokens_per_second(&self) -> Option<f64> {
        rate(self.new_tokens.saturating_sub(1), self.decode_seconds)
    }
}

fn rate(tokens: usize, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}

/// A finished text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generation {
    /// The text, without what ended it.
    pub text: String,
    /// The sampled ids, the one that ended the text included.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
    /// How fast it went.
    pub stats: GenerationStats,
}

/// Continues `prompt` in a session, which keeps the beginning that it shares with the prompt and ends up holding the
/// prompt and the new tokens but the last.
///
/// `on_piece` receives text as it becomes certain, once for each token, often empty; breaking ends the generation.
///
/// # Errors
/// An empty prompt, a prompt that does not fit with the tokens asked for, options out of range, damaged weights, or
/// whatever `on_piece` reports.
pub fn generate(
    model: &Model,
    session: &mut Session,
    prompt: &[u32],
    options: &GenerateOptions,
    on_piece: &mut dyn FnMut(&str) -> io::Result<ControlFlow<()>>,
) -> Result<Generation, EngineError> {
    let mut request = Request::new(model, options, prompt.len(), session.max_seq_len())?;
    let (mut logits, reused) = session.feed_reusing(prompt, request.sampler.top())?;
    request.stats.reused_tokens = reused;
    request.prefilled();
    loop {
        let next = request.accept(&logits, session.tokens())?;
        let flow = on_piece(request.piece()).map_err(EngineError::Output)?;
        let Some(next) = next else { break };
        if flow.is_break() {
            request.stop = Some(StopReason::Cancelled);
            break;
        }
        logits = session.feed_top(&[next], request.sampler.top())?;
    }
    request.end();
    if !request.piece().is_empty() {
        // Nothing is left that a break could stop.
        let _ = on_piece(request.piece()).map_err(EngineError::Output)?;
    }
    Ok(request.finish(session.cache_bytes()))
}

/// Continues every prompt, `batch_size` of them at a time; each gets the text that it would get alone.
///
/// # Errors
/// As [`generate`].
pub fn generate_batch(
    model: &Model,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    batch_size: usize,
) -> Result<Vec<Generation>, EngineError> {
    let mut done: Vec<Option<Generation>> = vec![None; prompts.len()];
    let mut waiting = 0..prompts.len();
    let mut active: Vec<Active<'_>> = Vec::new();
    loop {
        while active.len() < batch_size.max(1) {
            let Some(index) = waiting.next() else { break };
            active.push(Active::start(model, index, &prompts[index], options)?);
        }
        if active.is_empty() {
            return Ok(done.into_iter().flatten().collect());
        }
        let turns = active.iter_mut().map(|one| (&mut one.session, one.next.as_slice()));
        let (mut sessions, ids): (Vec<&mut Session>, Vec<&[u32]>) = turns.unzip();
        let logits = feed_batch(&mut sessions, &ids)?;
        let vocab_size = model.config().vocab_size;
        for (one, logits) in active.iter_mut().zip(logits.chunks_exact(vocab_size)) {
            if one.request.ids.is_empty() {
                one.request.prefilled();
            }
            one.next.clear();
            one.next.extend(one.request.accept(logits, one.session.tokens())?);
        }
        for one in active.extract_if(.., |one| one.next.is_empty()) {
            let Active { index, session, mut request, .. } = one;
            request.end();
            done[index] = Some(request.finish(session.cache_bytes()));
        }
    }
}

/// A prompt of a batch in progress.
struct Active<'a> {
    index: usize,
    session: Session,
    request: Request<'a>,
    /// What to feed next; empty when done.
    next: Vec<u32>,
}

impl<'a> Active<'a> {
    fn start(
        model: &'a Model,
        index: usize,
        prompt: &[u32],
        options: &'a GenerateOptions,
    ) -> Result<Self, EngineError> {
        let longest = model.config().max_position_embeddings;
        let request = Request::new(model, options, prompt.len(), Some(longest))?;
        let max_seq_len = (prompt.len() + request.limit).min(longest);
        let session = Session::new(model.network(), CacheMode::Bounded { max_seq_len });
        Ok(Self { index, session, request, next: prompt.to_vec() })
    }
}

/// The state of one generation between two forward passes.
struct Request<'a> {
    model: &'a Model,
    options: &'a GenerateOptions,
    sampler: Sampler,
    utf8: Utf8Stream,
    watch: StopStrings,
    /// Most new tokens, and why it ends there.
    limit: usize,
    at_limit: StopReason,
    ids: Vec<u32>,
    /// All text so far, and where the last piece of it starts.
    text: String,
    piece: usize,
    /// Characters of the last token, before stop strings are looked for.
    decoded: String,
    stop: Option<StopReason>,
    stats: GenerationStats,
    start: Instant,
    first_token: Option<Instant>,
}

impl<'a> Request<'a> {
    fn new(
        model: &'a Model,
        options: &'a GenerateOptions,
        prompt_tokens: usize,
        max_seq_len: Option<usize>,
    ) -> Result<Self, EngineError> {
        if prompt_tokens == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        let room = max_seq_len.map_or(usize::MAX, |max| max.saturating_sub(prompt_tokens));
        let reserved = options.max_new_tokens.unwrap_or(1);
        if reserved > room {
            let max_seq_len = max_seq_len.unwrap_or_default();
            return Err(EngineError::ContextOverflow {
                what: "the prompt",
                found: prompt_tokens,
                reserved,
                max_seq_len,
            });
        }
        let (limit, at_limit) = match options.max_new_tokens {
            Some(limit) => (limit, StopReason::Length),
            None => (room, StopReason::ContextFull),
        };
        let stats = GenerationStats { prompt_tokens, ..GenerationStats::default() };
        Ok(Self {
            model,
            options,
            sampler: Sampler::new(options.sampler.clone())?,
            utf8: Utf8Stream::default(),
            watch: StopStrings::new(&options.stop_strings),
            limit,
            at_limit,
            ids: Vec::new(),
            text: String::new(),
            piece: 0,
            decoded: String::new(),
            stop: None,
            stats,
            start: Instant::now(),
            first_token: None,
        })
    }

    fn prefilled(&mut self) {
        self.stats.prefill_seconds = self.start.elapsed().as_secs_f64();
    }

    /// The text that became certain last.
    fn piece(&self) -> &str {
        &self.text[self.piece..]
    }

    /// Samples from `logits [V]`; returns the id to feed next, if any.
    fn accept(&mut self, logits: &[f32], context: &[u32]) -> Result<Option<u32>, EngineError> {
        self.piece = self.text.len();
        if self.limit == 0 {
            self.stop = Some(self.at_limit.clone());
            return Ok(None);
        }
        let id = self.sampler.sample(logits, context)?;
        let now = Instant::now();
        let first = *self.first_token.get_or_insert(now);
        self.stats.decode_seconds = now.duration_since(first).as_secs_f64();
        self.ids.push(id);
        if !self.options.ignore_eos && self.model.stop_ids().contains(&id) {
            self.stop = Some(StopReason::EndToken { id });
            return Ok(None);
        }
        self.decoded.clear();
        match self.model.visible_bytes(id) {
            Some(bytes) => self.utf8.push(&bytes, &mut self.decoded),
            None => self.utf8.finish(&mut self.decoded),
        }
        if let Some(text) = self.watch.push(&self.decoded, &mut self.text) {
            self.stop = Some(StopReason::StopString { text: text.to_owned() });
        } else if self.ids.len() >= self.limit {
            self.stop = Some(self.at_limit.clone());
        }
        Ok(self.stop.is_none().then_some(id))
    }

    /// Ends the text; the last piece is then what was held back.
    fn end(&mut self) {
        self.piece = self.text.len();
        if !matches!(self.stop, Some(StopReason::StopString { .. })) {
            self.decoded.clear();
            self.utf8.finish(&mut self.decoded);
            let _ = self.watch.push(&self.decoded, &mut self.text);
            self.watch.finish(&mut self.text);
        }
    }

    /// The result.
    fn finish(mut self, kv_cache_bytes: usize) -> Generation {
        self.stats.new_tokens = self.ids.len();
        self.stats.kv_cache_bytes = kv_cache_bytes;
        let first = self.first_token.map_or(Duration::ZERO, |first| first.duration_since(self.start));
        self.stats.time_to_first_token_seconds = first.as_secs_f64();
        let stop = self.stop.unwrap_or(self.at_limit);
        Generation { text: self.text, ids: self.ids, stop, stats: self.stats }
    }
}
