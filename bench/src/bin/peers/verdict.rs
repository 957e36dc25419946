//! A cell against the better peer of its run, and against the bar that is set for it.

use shakti_measure::Spread;

use crate::cells::Table;
use crate::record::{Cell, Run};

/// What a table is to reach.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Ratio to the better peer in every cell; of costs at most, of rates at least.
    pub cell: f64,
    /// Ratio in geometric mean.
    pub mean: f64,
    /// Whether a cell may miss its ratio by the spread of its run.
    pub allows_spread: bool,
    /// Share of what this machine's memory gives that will do instead.
    pub share: Option<f64>,
}

/// The bar of a table; twins and the memory limit have none.
pub fn bar(table: Table) -> Option<Bar> {
    let plain = |cell| Bar { cell, mean: cell, allows_spread: false, share: None };
    match table {
        Table::Decode => Some(Bar { mean: 1.1, allows_spread: true, ..plain(1.0) }),
        Table::Depth => Some(Bar { share: Some(0.85), ..plain(2.0) }),
        Table::Prefill => Some(plain(1.5)),
        Table::Batch8 => Some(plain(2.5)),
        Table::Batch32 => Some(plain(3.0)),
        Table::Start => Some(plain(0.15)),
        Table::Memory => Some(plain(0.5)),
        Table::TwinsDecode | Table::TwinsPrefill | Table::Limit => None,
    }
}

/// Ours against the better one of the others.
#[derive(Clone, Debug)]
pub struct Ratio<'a> {
    pub peer: &'a Run,
    pub spread: Spread,
}

/// Ratios of the rounds that both have; `None` without ours or without a peer.
pub fn ratio(cell: &Cell) -> Option<Ratio<'_>> {
    let (ours, peers) = cell.runs.split_first()?;
    let is_better = |a: f64, b: f64| if cell.key.table.is_cost() { a < b } else { a > b };
    let mut best: Option<(&Run, f64)> = None;
    for run in peers.iter().filter(|run| run.is_running()) {
        let Some(median) = run.median() else { continue };
        if best.is_none_or(|(_, before)| is_better(median, before)) {
            best = Some((run, median));
        }
    }
    let (peer, _) = best?;
    let ratios: Vec<f64> = ours.values.iter().zip(&peer.values).map(|(ours, theirs)| ours / theirs).collect();
    (!ratios.is_empty()).then(|| Ratio { peer, spread: Spread::of(&ratios) })
}

/// Bytes or operations per second of ours, and their share of what the machine gives.
pub fn reached(cell: &Cell) -> Option<(f64, f64)> {
    let bound = cell.bound?;
    let per_s = bound.per_token * cell.runs.first()?.median()?;
    Some((per_s, per_s / bound.limit_per_s))
}

/// Whether a cell clears its bar, in a word.
pub fn verdict(cell: &Cell, bar: &Bar) -> &'static str {
    let Some(ratio) = ratio(cell) else { return "not got" };
    let is_cost = cell.key.table.is_cost();
    let clears = |value: f64| if is_cost { value <= bar.cell } else { value >= bar.cell };
    let best = if is_cost { ratio.spread.min } else { ratio.spread.max };
    let share = reached(cell).map(|(_, share)| share);
    if clears(ratio.spread.median) {
        "met"
    } else if bar.share.is_some_and(|least| share.is_some_and(|share| share >= least)) {
        "met by share"
    } else if bar.allows_spread && clears(best) {
        "in spread"
    } else {
        "not met"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::Key;
    use crate::record::Bound;

    fn cell(table: Table, runs: &[(&str, &[f64])]) -> Cell {
        let key = Key { table, model: "100m".into(), format: "q4_0".into(), threads: 1, depth: None };
        let run = |(name, values): &(&str, &[f64])| Run {
            values: values.to_vec(),
            ..Run::new(name, String::new())
        };
        let bound = Some(Bound { per_token: 2.0, limit_per_s: 100.0 });
        Cell { runs: runs.iter().map(run).collect(), bound, ..Cell::not_got(&key, String::new()) }
    }

    fn said(cell: &Cell) -> &'static str {
        verdict(cell, &bar(cell.key.table).expect("a bar"))
    }

    #[test]
    fn the_better_peer_is_the_one_of_the_better_median() {
        let mut rates = cell(
            Table::Decode,
            &[("ours", &[30.0, 36.0, 33.0]), ("a", &[10.0, 20.0, 30.0]), ("b", &[15.0, 15.0, 16.0])],
        );
        let found = ratio(&rates).expect("a ratio");
        assert_eq!((found.peer.name.as_str(), found.spread.median), ("a", 1.8));
        assert_eq!(found.spread.range(), [1.1, 3.0]);
        rates.runs[1].is_dropped = true;
        assert_eq!(ratio(&rates).expect("a ratio").peer.name, "b");
        let times = cell(Table::Start, &[("ours", &[0.03]), ("a", &[0.3]), ("b", &[0.2])]);
        assert_eq!(ratio(&times).expect("a ratio").peer.name, "b");
        assert_eq!(said(&times), "met");
        assert!(ratio(&cell(Table::Decode, &[("ours", &[1.0])])).is_none());
    }

    #[test]
    fn a_bar_is_cleared_by_ratio_by_spread_or_by_share() {
        let decode = |ours: &[f64]| said(&cell(Table::Decode, &[("ours", ours), ("a", &[10.0, 10.0, 10.0])]));
        assert_eq!(decode(&[11.0, 10.0, 9.0]), "met");
        assert_eq!(decode(&[9.0, 9.5, 10.1]), "in spread");
        assert_eq!(decode(&[9.0, 9.5, 9.9]), "not met");
        assert_eq!(
            said(&cell(Table::Prefill, &[("ours", &[14.0, 14.0, 16.0]), ("a", &[10.0; 3])])),
            "not met"
        );
        // 43 tokens of 2 bytes are 86% of 100 bytes a second.
        assert_eq!(said(&cell(Table::Depth, &[("ours", &[43.0]), ("a", &[40.0])])), "met by share");
        assert_eq!(said(&cell(Table::Depth, &[("ours", &[42.0]), ("a", &[40.0])])), "not met");
        assert_eq!(said(&cell(Table::Memory, &[("ours", &[60.0]), ("a", &[100.0])])), "not met");
        assert_eq!(said(&cell(Table::Batch8, &[("ours", &[1.0])])), "not got");
    }
}
