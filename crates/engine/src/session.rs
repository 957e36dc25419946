//! One sequence in progress: its tokens and its KV cache.

use std::ops::Range;
use std::sync::Arc;

use shakti_kernels::{Buffer, Buffers};
use shakti_model::{Batch, CacheMode, KvCache};

use crate::EngineError;
use crate::network::Network;

/// Most tokens of one sequence in one forward pass: enough to multiply as fast as with more, and a quarter of the working memory
/// that 512 take.
const PREFILL_CHUNK: usize = 128;

/// Most tokens of all sequences in one forward pass.
const BATCH_ROWS: usize = 2048;

/// Tokens of an endless stream that are remembered for the repetition penalty.
const STREAM_MEMORY: usize = 1024;

/// A sequence of tokens whose keys and values are cached.
#[derive(Debug)]
pub struct Session {
    network: Arc<Network>,
    cache: KvCache,
    mode: CacheMode,
    tokens: Vec<u32>,
    pass: Pass,
}

/// Memory to work in, kept from call to call: what each session of a batch has been fed, and one forward pass.
#[derive(Debug, Default)]
struct Pass {
    fed: Vec<usize>,
    /// Which sessions take part, in order, and with how many tokens each.
    turns: Vec<(usize, usize)>,
    tokens: Vec<u32>,
    rows: Vec<Range<usize>>,
}

impl Session {
    /// An empty sequence; `mode` says how long it may become.
    pub fn new(network: &Arc<Network>, mode: CacheMode) -> Self {
        let longest = match mode {
            CacheMode::Bounded { max_seq_len } => max_seq_len,
            CacheMode::Streaming { window } => window,
        };
        let chunk = PREFILL_CHUNK.min(longest.max(1));
        let cache = KvCache::with_type(network.config(), network.kv_type(), mode, chunk);
        let remembered = match mode {
            CacheMode::Bounded { max_seq_len } => max_seq_len,
            CacheMode::Streaming { .. } => 2 * STREAM_MEMORY + chunk,
        };
        let tokens = Vec::with_capacity(remembered);
        Self { network: network.clone(), cache, mode, tokens, pass: Pass::default() }
    }

    /// A second sequence with the same tokens so far, for another continuation: it computes nothing, and shares the memory
    /// of keys and values until one of the two goes on, which then copies the blocks in use. Both give the same bits as a
    /// sequence that was fed from the start.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut tokens = Vec::with_capacity(self.tokens.capacity());
        tokens.extend_from_slice(&self.tokens);
        let (network, cache) = (self.network.clone(), self.cache.fork());
        Self { network, cache, mode: self.mode, tokens, pass: Pass::default() }
    }

    /// Tokens seen so far.
    pub fn position(&self) -> usize {
        self.cache.position()
    }

    /// The tokens seen so far; of an endless stream the last ones.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens that the sequence can hold in all; `None` if endless.
    pub fn max_seq_len(&self) -> Option<usize> {
        match self.mode {
            CacheMode::Bounded { max_seq_len } => Some(max_seq_len),
            CacheMode::Streaming { .. } => None,
        }
    }

    /// Bytes of keys and values; those shared with forks count in each.
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// The network that runs the sequence.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Appends tokens and returns the scores `[V]` of what follows the last one.
    ///
    /// # Errors
    /// No tokens, more than fit, or ids outside the vocabulary.
    pub fn feed(&mut self, ids: &[u32]) -> Result<Buffer, EngineError> {
        feed_batch(&mut [self], &[ids])
    }

    /// [`Session::feed`] for a caller that looks at the `top` highest scores alone, at all if `None`. Others may be
    /// [`shakti_kernels::NOT_AMONG_TOP`].
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn feed_top(&mut self, ids: &[u32], top: Option<usize>) -> Result<Buffer, EngineError> {
        let Some(top) = top.filter(|top| *top > 0) else { return self.feed(ids) };
        let hidden = feed_hidden(&mut [self], &[ids])?;
        let network = &self.network;
        Ok(network.decoder.top_logits(network.compute(), &network.weights(), &hidden, top))
    }

    /// Makes the sequence hold exactly `ids`, keeping the longest beginning it shares with them; returns the scores
    /// `[V]` of what follows, as [`Session::feed_top`] does, and the number of tokens that were kept.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn feed_reusing(&mut self, ids: &[u32], top: Option<usize>) -> Result<(Buffer, usize), EngineError> {
        let whole = self.tokens.len() == self.position();
        let shared = self.tokens.iter().zip(ids).take_while(|(a, b)| a == b).count();
        // The last token is always fed: its scores are what is asked for.
        let mut kept = if whole { shared.min(ids.len().saturating_sub(1)) } else { 0 };
        if kept == 0 || self.truncate(kept).is_err() {
            self.reset();
            kept = 0;
        }
        Ok((self.feed_top(&ids[kept..], top)?, kept))
    }

    /// Forgets the tokens from `position` on.
    ///
    /// # Errors
    /// A sliding window that has moved on cannot go back; the sequence is then unchanged.
    pub fn truncate(&mut self, position: usize) -> Result<(), EngineError> {
        let forgotten = self.position().saturating_sub(position);
        self.cache.truncate(position)?;
        self.tokens.truncate(self.tokens.len().saturating_sub(forgotten));
        Ok(())
    }

    /// Forgets every token; keeps the memory.
    pub fn reset(&mut self) {
        self.cache.clear();
        self.tokens.clear();
    }

    fn check(&self, ids: &[u32]) -> Result<(), EngineError> {
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        match self.max_seq_len() {
            Some(max_seq_len) if self.position() + ids.len() > max_seq_len => {
                let found = self.position() + ids.len();
                Err(EngineError::ContextOverflow { what: "the sequence", found, reserved: 0, max_seq_len })
            }
            _ => Ok(()),
        }
    }

    fn remember(&mut self, ids: &[u32]) {
        self.tokens.extend_from_slice(ids);
        if self.max_seq_len().is_none() && self.tokens.len() > 2 * STREAM_MEMORY {
            self.tokens.drain(..self.tokens.len() - STREAM_MEMORY);
        }
    }
}

/// Appends `ids[i]` to session `i` of one network, all in common forward passes, and returns the scores `[S, V]`
/// of what follows each. Each session gets the same bits as alone.
///
/// # Errors
/// As [`Session::feed`]; nothing is fed if a session has no room.
///
/// # Panics
/// If the sessions are of different networks, or there is not one list of ids for each.
pub fn feed_batch(sessions: &mut [&mut Session], ids: &[&[u32]]) -> Result<Buffer, EngineError> {
    if sessions.is_empty() {
        return Ok(Buffers::default().take(0));
    }
    let hidden = feed_hidden(sessions, ids)?;
    let network = &sessions[0].network;
    Ok(network.decoder.logits(network.compute(), &network.weights(), &hidden))
}

/// Appends `ids[i]` to session `i`, of which there is at least one; returns the normalised hidden states `[S, D]` of each
/// one's last token.
fn feed_hidden(sessions: &mut [&mut Session], ids: &[&[u32]]) -> Result<Buffer, EngineError> {
    assert_eq!(sessions.len(), ids.len(), "one list of ids for each session");
    let network = sessions[0].network.clone();
    assert!(
        sessions.iter().all(|session| Arc::ptr_eq(&session.network, &network)),
        "sessions of one network"
    );
    for (session, ids) in sessions.iter().zip(ids) {
        session.check(ids)?;
    }
    let mut pass = std::mem::take(&mut sessions[0].pass);
    let hidden = pass.run_all(&network, sessions, ids);
    sessions[0].pass = pass;
    hidden
}

impl Pass {
    fn run_all(
        &mut self,
        network: &Network,
        sessions: &mut [&mut Session],
        ids: &[&[u32]],
    ) -> Result<Buffer, EngineError> {
        let width = network.config().hidden_size;
        let mut last_hidden = network.cpu.buffers.take(sessions.len() * width);
        self.fed.clear();
        self.fed.resize(sessions.len(), 0);
        loop {
            self.next(sessions, ids);
            if self.turns.is_empty() {
                return Ok(last_hidden);
            }
            let hidden = self.run(network, sessions)?;
            for ((index, len), rows) in self.turns.iter().zip(&self.rows) {
                sessions[*index].remember(&self.tokens[rows.clone()]);
                self.fed[*index] += len;
                let last = &hidden[(rows.end - 1) * width..rows.end * width];
                last_hidden[index * width..(index + 1) * width].copy_from_slice(last);
            }
        }
    }

    /// Finds who takes part in the next forward pass, and with which tokens.
    fn next(&mut self, sessions: &[&mut Session], ids: &[&[u32]]) {
        let mut room = BATCH_ROWS;
        self.turns.clear();
        self.tokens.clear();
        self.rows.clear();
        for (index, (session, ids)) in sessions.iter().zip(ids).enumerate() {
            let rest = &ids[self.fed[index]..];
            let len = rest.len().min(session.cache.next_chunk()).min(room);
            if len > 0 {
                self.turns.push((index, len));
                self.rows.push(self.tokens.len()..self.tokens.len() + len);
                self.tokens.extend_from_slice(&rest[..len]);
                room -= len;
            }
        }
    }

    /// Normalised hidden states `[N, D]` of the pass.
    fn run(&self, network: &Network, sessions: &mut [&mut Session]) -> Result<Buffer, EngineError> {
        let weights = network.weights();
        let batch = Batch { tokens: &self.tokens, rows: &self.rows };
        let forward =
            |caches: &mut [&mut KvCache]| network.decoder.forward(network.compute(), &weights, batch, caches);
        if let [session] = sessions {
            return Ok(forward(&mut [&mut session.cache])?);
        }
        let mut turns = self.turns.iter().map(|(index, _)| *index).peekable();
        let caches = sessions.iter_mut().enumerate().filter(|(index, _)| turns.next_if_eq(index).is_some());
        Ok(forward(&mut caches.map(|(_, session)| &mut session.cache).collect::<Vec<_>>())?)
    }
}
