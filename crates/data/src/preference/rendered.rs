//! Conversations to sequences, or the reason why not.

use super::{Reason, Sequence};
use crate::error::ErrorKind;
use crate::record::{Message, Role};
use crate::tokens::Encode;

/// What became of a record.
pub(super) enum Outcome<T> {
    /// `cut`: completions that lost their end.
    Kept {
        item: T,
        cut: usize,
    },
    LeftOut(Reason),
}

impl<T> Outcome<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Kept { item, cut } => Outcome::Kept { item: change(item), cut },
            Self::LeftOut(reason) => Outcome::LeftOut(reason),
        }
    }
}

pub(super) struct Renderer<'a> {
    pub(super) encoder: &'a dyn Encode,
    /// Most inputs of a sequence; it has one id more.
    pub(super) sequence_length: usize,
}

impl Renderer<'_> {
    /// Both sides of a pair.
    pub(super) fn pair(
        &self,
        prompt: &[Message],
        chosen: &[Message],
        rejected: &[Message],
    ) -> Result<Outcome<[Sequence; 2]>, ErrorKind> {
        if chosen == rejected {
            return Ok(Outcome::LeftOut(Reason::Equal));
        }
        let (chosen, rejected) = match (answer(chosen), answer(rejected)) {
            (Ok(chosen), Ok(rejected)) => (chosen, rejected),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Outcome::LeftOut(reason)),
        };
        if chosen.content.trim() == rejected.content.trim() {
            return Ok(Outcome::LeftOut(Reason::Equal));
        }
        let begins = self.prompt_ids(prompt)?;
        let mut cut = 0;
        let mut side = |answer: &Message| -> Result<Result<Sequence, Reason>, ErrorKind> {
            let outcome = self.sequence(prompt, &begins, answer)?;
            Ok(outcome.map(|(sequence, was_cut)| {
                cut += usize::from(was_cut);
                sequence
            }))
        };
        let sides = (side(chosen)?, side(rejected)?);
        Ok(match sides {
            (Err(reason), _) | (_, Err(reason)) => Outcome::LeftOut(reason),
            (Ok(chosen), Ok(rejected)) if chosen.ids == rejected.ids => {
                Outcome::LeftOut(Reason::EqualAfterCut)
            }
            (Ok(chosen), Ok(rejected)) => Outcome::Kept { item: [chosen, rejected], cut },
        })
    }

    /// A conversation that ends with the answer; what others say after it does not count.
    pub(super) fn conversation(&self, messages: &[Message]) -> Result<Outcome<Sequence>, ErrorKind> {
        let Some(last) = messages.iter().rposition(|message| message.role == Role::Assistant) else {
            return Ok(Outcome::LeftOut(Reason::Empty));
        };
        let prompt = &messages[..last];
        let answer = match answer(&messages[last..]) {
            Ok(answer) => answer,
            Err(reason) => return Ok(Outcome::LeftOut(reason)),
        };
        let begins = self.prompt_ids(prompt)?;
        Ok(match self.sequence(prompt, &begins, answer)? {
            Ok((item, was_cut)) => Outcome::Kept { item, cut: usize::from(was_cut) },
            Err(reason) => Outcome::LeftOut(reason),
        })
    }

    /// A prompt that has room for an answer.
    pub(super) fn prompt(&self, messages: &[Message]) -> Result<Outcome<Vec<u32>>, ErrorKind> {
        let ids = self.prompt_ids(messages)?;
        Ok(match ids.len() <= self.sequence_length {
            true => Outcome::Kept { item: ids, cut: 0 },
            false => Outcome::LeftOut(Reason::NoRoom),
        })
    }

    fn prompt_ids(&self, messages: &[Message]) -> Result<Vec<u32>, ErrorKind> {
        let mut ids = Vec::new();
        self.encoder.encode_prompt(messages, &mut ids).map_err(ErrorKind::Encode)?;
        Ok(ids)
    }

    /// Prompt and answer rendered as one, and whether the end was cut off.
    fn sequence(
        &self,
        prompt: &[Message],
        prompt_ids: &[u32],
        answer: &Message,
    ) -> Result<Result<(Sequence, bool), Reason>, ErrorKind> {
        let messages: Vec<Message> = prompt.iter().chain([answer]).cloned().collect();
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        self.encoder.encode_chat(&messages, &mut ids, &mut mask).map_err(ErrorKind::Encode)?;
        // What a template writes behind the end of a turn is nothing that the model writes.
        ids.truncate(mask.iter().rposition(|&learned| learned).map_or(0, |last| last + 1));
        let prompt_len = prompt_ids.len();
        if !ids.starts_with(prompt_ids) || ids.len() == prompt_len {
            return Ok(Err(Reason::PrefixDiffers));
        }
        let most = self.sequence_length.saturating_add(1);
        let was_cut = ids.len() > most;
        ids.truncate(most);
        if ids.len() <= prompt_len {
            return Ok(Err(Reason::NoRoom));
        }
        ids.shrink_to_fit();
        Ok(Ok((Sequence { ids, prompt_len }, was_cut)))
    }
}

/// The one answer of a completion; what others say after it does not count.
fn answer(completion: &[Message]) -> Result<&Message, Reason> {
    let Some(last) = completion.iter().rposition(|message| message.role == Role::Assistant) else {
        return Err(if completion.is_empty() { Reason::Empty } else { Reason::NotOneAnswer });
    };
    match &completion[..=last] {
        [answer] if answer.content.trim().is_empty() => Err(Reason::Empty),
        [answer] => Ok(answer),
        _ => Err(Reason::NotOneAnswer),
    }
}
