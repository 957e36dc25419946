//! Sequences in a shuffled order, as many in a batch as fit.

use shakti_data::{Batch, Position, Segment, Sequence, Shuffled};

use crate::TrainError;

/// Gives batches of whole items for ever.
pub(crate) struct Feed {
    order: Shuffled,
    /// Tokens of each item.
    sizes: Vec<usize>,
    batch_tokens: usize,
}

impl Feed {
    /// Items of these sizes, none larger than `batch_tokens`.
    pub fn new(order: Shuffled, sizes: Vec<usize>, batch_tokens: usize) -> Self {
        Self { order, sizes, batch_tokens }
    }

    /// The items of the next batch, at least one.
    pub fn next_batch(&mut self) -> Vec<usize> {
        let (mut items, mut tokens) = (Vec::new(), 0);
        loop {
            let before = self.order.position();
            let item = self.order.next_index();
            tokens += self.sizes[item];
            if tokens > self.batch_tokens && !items.is_empty() {
                self.order.restore(&before).expect("its own position");
                return items;
            }
            items.push(item);
        }
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        self.order.position()
    }

    /// Goes to a position.
    pub fn restore(&mut self, position: &Position) -> Result<(), TrainError> {
        Ok(self.order.restore(position)?)
    }
}

/// Runs of consecutive items of together at most `batch_tokens`, or a single larger one.
pub(crate) fn runs(sizes: &[usize], batch_tokens: usize) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (item, size) in sizes.iter().enumerate() {
        tokens += size;
        match runs.last_mut() {
            Some(run) if tokens <= batch_tokens => run.end = item + 1,
            _ => {
                runs.push(item..item + 1);
                tokens = *size;
            }
        }
    }
    runs
}

/// Next-token rows of sequences; only completions have targets.
pub(crate) fn completions<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Batch {
    let mut batch = Batch::default();
    for sequence in sequences {
        let ids = &sequence.ids;
        let len = ids.len() - 1;
        batch.segments.push(Segment { start: batch.tokens.len(), len });
        batch.tokens.extend_from_slice(&ids[..len]);
        batch.targets.extend_from_slice(&ids[1..]);
        let counts = |index: usize| f32::from(u8::from(index >= sequence.prompt_len));
        batch.weights.extend((1..ids.len()).map(counts));
    }
    batch
}

/// Whole sequences, no targets.
pub(crate) fn whole<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Batch {
    let mut batch = Batch::default();
    for sequence in sequences {
        batch.segments.push(Segment { start: batch.tokens.len(), len: sequence.ids.len() });
        batch.tokens.extend_from_slice(&sequence.ids);
    }
    batch.targets = vec![0; batch.tokens.len()];
    batch.weights = vec![0.0; batch.tokens.len()];
    batch
}

/// For each segment the sum of a value over its rows that have a target.
pub(crate) fn sums(batch: &Batch, values: &[f32]) -> Vec<f64> {
    let counted = |rows: std::ops::Range<usize>| {
        rows.filter(|row| batch.weights[*row] != 0.0).map(|row| f64::from(values[row])).sum()
    };
    batch.segments.iter().map(|segment| counted(segment.start..segment.start + segment.len)).collect()
}

/// Spreads a number for each segment over its rows.
pub(crate) fn spread(batch: &Batch, numbers: &[f64], scale: f64) -> Vec<f32> {
    let each = batch.segments.iter().zip(numbers);
    each.flat_map(|(segment, number)| std::iter::repeat_n((number * scale) as f32, segment.len)).collect()
}
