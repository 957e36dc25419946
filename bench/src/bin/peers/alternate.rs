//! Contestants in alternation, A B C A B C, and what they came to.

use crate::record::Run;

/// A variant that was this much slower than another one of the same program in the first round is not run again.
const CLEARLY: f64 = 0.9;

/// One number of one run.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub value: f64,
    pub kv_bytes: Option<u64>,
    /// Bytes of weights and cache that a token reads.
    pub bytes_per_token: Option<f64>,
    pub note: Option<String>,
}

/// Takes one sample.
pub type Sampler<'a> = Box<dyn FnMut() -> anyhow::Result<Sample> + 'a>;

/// A contestant: where its results go, and how to take one.
pub struct Contestant<'a> {
    /// Variants of one program share it.
    pub family: &'static str,
    pub run: Run,
    pub sample: Sampler<'a>,
}

/// Runs every contestant once a round; the first failure of one is its last run. Returns the results, and the bytes that
/// a token reads where a contestant said so.
pub fn alternate(
    mut contestants: Vec<Contestant<'_>>,
    rounds: u32,
    is_cost: bool,
) -> (Vec<Run>, Option<f64>) {
    let mut bytes_per_token = None;
    for round in 0..rounds {
        if round == 1 {
            drop_slow_variants(&mut contestants, is_cost);
        }
        for contestant in contestants.iter_mut().filter(|contestant| contestant.run.is_running()) {
            match (contestant.sample)() {
                Ok(sample) => {
                    contestant.run.values.push(sample.value);
                    contestant.run.kv_bytes = sample.kv_bytes.or(contestant.run.kv_bytes);
                    contestant.run.note = sample.note.or(contestant.run.note.take());
                    bytes_per_token = sample.bytes_per_token.or(bytes_per_token);
                }
                Err(error) => contestant.run.failure = Some(format!("{error:#}")),
            }
        }
    }
    (contestants.into_iter().map(|contestant| contestant.run).collect(), bytes_per_token)
}

fn drop_slow_variants(contestants: &mut [Contestant<'_>], is_cost: bool) {
    let first = |contestant: &Contestant<'_>| -> Option<f64> {
        let value = *contestant.run.values.first()?;
        Some(if is_cost { 1.0 / value } else { value })
    };
    let rates: Vec<(&str, Option<f64>)> =
        contestants.iter().map(|contestant| (contestant.family, first(contestant))).collect();
    for contestant in contestants {
        let best =
            rates.iter().filter(|(family, _)| *family == contestant.family).filter_map(|(_, rate)| *rate);
        let best = best.fold(0.0, f64::max);
        contestant.run.is_dropped = first(contestant).is_some_and(|rate| rate < CLEARLY * best);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn rounds_alternate_and_slow_variants_and_failures_run_once() {
        let order = RefCell::new(String::new());
        let contestant = |family, name: &'static str, value: f64| {
            let order = &order;
            let sample: Sampler<'_> = Box::new(move || {
                order.borrow_mut().push_str(name);
                anyhow::ensure!(value > 0.0, "no such program");
                Ok(Sample { value, ..Sample::default() })
            });
            Contestant { family, run: Run::new(name, String::new()), sample }
        };
        let all = || {
            vec![
                contestant("ours", "A", 1.0),
                contestant("peer", "B", 5.0),
                contestant("peer", "C", 4.0),
                contestant("other", "D", -1.0),
            ]
        };
        let (runs, _) = alternate(all(), 3, false);
        assert_eq!(order.take(), "ABCDABAB");
        assert!(runs[2].is_dropped && runs[3].failure.as_deref() == Some("no such program"), "{runs:?}");
        assert_eq!(runs[1].values, [5.0; 3]);
        // Where less is better, it is the other variant that goes.
        alternate(all(), 2, true);
        assert_eq!(order.take(), "ABCDAC");
    }
}
