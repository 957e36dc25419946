//! The tables as text.

use std::fmt::Write as _;

use shakti_measure::{Spread, geometric_mean};

use crate::cells::{BATCH_PROMPT, DECODE_TOKENS, DEPTH, Key, PROMPT, SHORT_DECODE, Table};
use crate::record::{Cell, Record};
use crate::verdict::{bar, ratio, reached, verdict};

/// Columns of a ratio with its range, and of the name of a peer.
const RATIO: usize = 18;
const PEER: usize = 13;

/// What values of a table are multiplied by, and in which unit they are then.
pub fn unit(table: Table) -> (f64, &'static str) {
    match table {
        Table::Start => (1e3, "ms"),
        Table::Memory => (1e-6, "MB"),
        _ => (1.0, "tokens/s"),
    }
}

fn title(table: Table) -> String {
    match table {
        Table::Decode => format!("Decode, {DECODE_TOKENS} tokens from an empty cache"),
        Table::Depth => format!("Decode, {SHORT_DECODE} tokens after {DEPTH}"),
        Table::Prefill => format!("Prefill, {PROMPT} tokens"),
        Table::Batch8 => batch_title(8),
        Table::Batch32 => batch_title(32),
        Table::Start => "Whole process: load, prompt of 16 tokens, first token, exit; page cache warm".into(),
        Table::Memory => format!(
            "Most resident memory beyond the weights once and the cache; prompt {PROMPT}, then {DECODE_TOKENS} decoded"
        ),
        Table::TwinsDecode => {
            format!("Native models and their dense uniform twins: {SHORT_DECODE} tokens decoded at a depth")
        }
        Table::TwinsPrefill => "Native models and their dense uniform twins: a prompt of a length".into(),
        Table::Limit => format!("500M Q4_0 with 1 GB of memory on 2 cores, {DECODE_TOKENS} tokens decoded"),
    }
}

fn batch_title(batch: usize) -> String {
    format!(
        "Decode of {batch} sequences at once, {SHORT_DECODE} tokens each after {BATCH_PROMPT}, all counted"
    )
}

/// Every table that has a cell among the keys.
pub fn text(record: &Record, keys: &[Key]) -> String {
    let mut text = format!("{}, {} cores, {}\n", record.processor, record.cores, record.os);
    for table in Table::ALL {
        let keys: Vec<&Key> = keys.iter().filter(|key| key.table == table).collect();
        if !keys.is_empty() {
            let cells: Vec<&Cell> = keys.iter().filter_map(|key| record.cell(key)).collect();
            write!(text, "\n{}\n", one_table(table, &cells)).expect("writing to a string");
            if cells.len() < keys.len() {
                writeln!(text, "{} of {} cells not measured yet", keys.len() - cells.len(), keys.len())
                    .expect("writing to a string");
            }
        }
    }
    text + "\nratios: ours over the better peer of the run, median [least, most] of the rounds; - after a peer's first round: \
            another variant of it was clearly better"
}

fn one_table(table: Table, cells: &[&Cell]) -> String {
    let names = names(cells);
    let mut text = format!("{} ({})\n{:<6}{:<8}{:>4}", title(table), unit(table).1, "model", "format", "thr");
    if table.is_twins() {
        text.push_str(" tokens");
    }
    for name in &names {
        write!(text, " {name:>width$}", width = width(name)).expect("writing to a string");
    }
    let rate = rate_name(table);
    let share = if rate.is_empty() { String::new() } else { format!(" {rate:>7} {:>5}", "limit") };
    let cache = if table.is_twins() { "   cache MB" } else { "" };
    writeln!(text, " {:>RATIO$} {:<PEER$}{share}{cache}", "ratio", "to").expect("writing to a string");
    for cell in cells {
        writeln!(text, "{}", row(cell, &names).trim_end()).expect("writing to a string");
    }
    let mut notes: Vec<String> = cells.iter().filter_map(|cell| cell.note.clone()).collect();
    for cell in cells {
        for run in &cell.runs {
            notes.extend(run.failure.as_ref().map(|why| format!("{}, {}: {why}", cell.key, run.name)));
            notes.extend(run.note.as_ref().map(|note| format!("{}, {}: {note}", cell.key, run.name)));
        }
    }
    notes.dedup();
    notes.iter().for_each(|note| writeln!(text, "  {note}").expect("writing to a string"));
    text + &summary(table, cells)
}

/// Contestants of all cells, in the order in which they stand.
fn names<'a>(cells: &[&'a Cell]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for run in cells.iter().flat_map(|cell| &cell.runs) {
        if !names.contains(&run.name.as_str()) {
            names.push(&run.name);
        }
    }
    names
}

fn width(name: &str) -> usize {
    name.len().max(9)
}

fn rate_name(table: Table) -> &'static str {
    match table {
        Table::Decode | Table::Depth => "GB/s",
        Table::Prefill | Table::Batch8 | Table::Batch32 => "Gop/s",
        _ => "",
    }
}

fn row(cell: &Cell, names: &[&str]) -> String {
    let table = cell.key.table;
    let mut text = format!("{:<6}{:<8}{:>4}", cell.key.model, cell.key.format, cell.key.threads);
    if table.is_twins() {
        write!(text, " {:>6}", cell.key.depth.unwrap_or(0)).expect("writing to a string");
    }
    if let Some(why) = &cell.not_got {
        return text + " not got: " + why;
    }
    for name in names {
        let run = cell.runs.iter().find(|run| run.name == *name);
        let value = run.and_then(crate::record::Run::median).map(|value| value * unit(table).0);
        let dropped = if run.is_some_and(|run| run.is_dropped) { "-" } else { "" };
        let value = value.map_or_else(|| "not got".to_owned(), |value| format!("{value:.1}{dropped}"));
        write!(text, " {value:>width$}", width = width(name)).expect("writing to a string");
    }
    let found = ratio(cell).map_or_else(
        || format!("- {:PEER$}", ""),
        |ratio| {
            let Spread { median, min, max } = ratio.spread;
            format!("{median:.2} [{min:.2}, {max:.2}] {:<PEER$}", ratio.peer.name)
        },
    );
    write!(text, " {found:>width$}", width = RATIO + 1 + PEER).expect("writing to a string");
    if !rate_name(table).is_empty() {
        let reached = reached(cell).map_or_else(
            || format!(" {:>7} {:>5}", "-", "-"),
            |(rate, share)| format!(" {:>7.1} {:>4.0}%", rate / 1e9, 100.0 * share),
        );
        text.push_str(&reached);
    }
    if table.is_twins() {
        let bytes = cell.runs.iter().map(|run| run.kv_bytes.unwrap_or(0) as f64 / 1e6);
        let bytes: Vec<String> = bytes.map(|megabytes| format!("{megabytes:.1}")).collect();
        write!(text, "   {}", bytes.join(" / ")).expect("writing to a string");
    }
    bar(table).map_or(text.clone(), |bar| format!("{text}  {}", verdict(cell, &bar)))
}

/// The geometric mean beside the bar.
fn summary(table: Table, cells: &[&Cell]) -> String {
    let ratios: Vec<f64> =
        cells.iter().filter_map(|cell| ratio(cell)).map(|ratio| ratio.spread.median).collect();
    let Some(mean) = geometric_mean(&ratios) else { return "geometric mean: not got".into() };
    let text = format!("geometric mean {mean:.2} over {} of {} cells", ratios.len(), cells.len());
    let Some(bar) = bar(table) else { return text };
    let met = cells.iter().filter(|cell| !verdict(cell, &bar).starts_with("not")).count();
    let clears = if table.is_cost() { mean <= bar.mean } else { mean >= bar.mean };
    let (least, or) = (
        if table.is_cost() { "at most" } else { "at least" },
        bar.share.map_or_else(String::new, |share| format!(" or {:.0}% of the bandwidth", 100.0 * share)),
    );
    let spread = if bar.allows_spread { ", less the spread" } else { "" };
    let mean_bar = if bar.mean == bar.cell { String::new() } else { format!(", mean {least} {}", bar.mean) };
    format!(
        "{text}; bar: {least} {}{or} in every cell{spread}{mean_bar}: {met} of {} cells met, mean {}",
        bar.cell,
        cells.len(),
        if clears { "met" } else { "not met" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Bound, Run};

    #[test]
    fn a_table_says_ratios_limits_and_what_is_missing() {
        let key = |format: &str| Key {
            table: Table::Decode,
            model: "100m".into(),
            format: format.into(),
            threads: 2,
            depth: None,
        };
        let run = |name, values: &[f64]| Run { values: values.to_vec(), ..Run::new(name, String::new()) };
        let mut record = Record::open(None).expect("a record");
        let mut cell = Cell::not_got(&key("q4_0"), String::new());
        cell.not_got = None;
        cell.runs = vec![run("ours", &[600.0, 500.0]), run("llama.cpp", &[200.0, 250.0]), run("ik", &[])];
        cell.runs[2].failure = Some("no such program".into());
        cell.bound = Some(Bound { per_token: 8e7, limit_per_s: 5e10 });
        record.push(cell);
        record.push(Cell::not_got(&key("q8_0"), "no file".into()));
        let text = text(&record, &[key("q4_0"), key("q8_0"), key("q5_0")]);
        for expected in [
            "100m  q4_0       2     550.0     225.0   not got  2.50 [2.00, 3.00] llama.cpp        44.0   88%  met\n",
            "100m  q8_0       2 not got: no file\n",
            "decode/100m/q4_0/2, ik: no such program\n",
            "geometric mean 2.50 over 1 of 2 cells; bar: at least 1 in every cell, less the spread, mean at least 1.1: \
             1 of 2 cells met, mean met\n",
            "1 of 3 cells not measured yet\n",
        ] {
            assert!(text.contains(expected), "{expected}\nis not in\n{text}");
        }
    }
}
