//! Writes `data/quickstart/*.jsonl.zst` from the medical corpus and MedQuAD, always the same bytes.
//!
//! `cargo run -p shakti-data --release --example make_quickstart -- CORPUS_DIR INSTRUCT_DIR OUT_DIR`
//!
//! `CORPUS_DIR` holds `medical.jsonl.zst` (`text`, `source`), `INSTRUCT_DIR` holds `medquad_qa.jsonl.zst`
//! (`question`, `answer`, `qtype`, `source`). What is chosen and what is changed is said in
//! `data/quickstart/README.md`; the rules are the functions below.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::error::Error;
use std::io::Read;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Textbooks taken from the corpus, by the start of `source`. All CC BY 4.0.
const BOOKS: [&str; 3] = [
    "openstax/osbooks-anatomy-physiology@",
    "openstax/osbooks-microbiology@",
    "openstax/osbooks-nursing-external-bundle@",
];

/// Lines of the books that only make sense beside the original page (headings of removed exercises, links).
const PAGE_LINES: [&str; 12] = [
    "Multiple Choice",
    "Fill in the Blank",
    "Short Answer",
    "True/False",
    "Matching",
    "Review Questions",
    "Critical Thinking Questions",
    "Watch the video, and then respond to the following questions.",
    "Read the scenario, and then respond to the questions that follow.",
    "Jump to the next Clinical Focus box. Go back to the previous Clinical Focus box.",
    "Jump to the next Clinical Focus box.",
    "Go back to the previous Clinical Focus box.",
];

/// Shortest and longest answer kept, in characters.
const ANSWER_CHARACTERS: std::ops::RangeInclusive<usize> = 60..=600;

/// Words that mark an answer as a list of links, contacts or page furniture rather than an answer.
const FURNITURE: [&str; 22] = [
    "http",
    "www.",
    "click",
    "Click",
    "Web site",
    "website",
    "web site",
    "web page",
    "webpage",
    "this page",
    "These resources",
    "Please note",
    "1-800",
    "1-888",
    "GeneTests",
    "Genetic Testing Registry",
    "Human Phenotype Ontology",
    "Key Points",
    "PubMed",
    "OMIM",
    "the following link",
    "NINDS",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [corpus, instruct, out] = arguments.as_slice() else {
        return Err("expected CORPUS_DIR INSTRUCT_DIR OUT_DIR".into());
    };
    let books = read_jsonl(&Path::new(corpus).join("medical.jsonl.zst"))?;
    write(Path::new(out), "medical_text.jsonl.zst", &textbook_records(&books)?)?;
    let pairs = read_jsonl(&Path::new(instruct).join("medquad_qa.jsonl.zst"))?;
    write(Path::new(out), "medical_qa.jsonl.zst", &question_records(&pairs)?)
}

fn read_jsonl(path: &Path) -> Result<Vec<Value>> {
    let mut text = String::new();
    zstd::Decoder::new(std::fs::File::open(path)?)?.read_to_string(&mut text)?;
    text.split('\n').filter(|line| !line.is_empty()).map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn string<'a>(record: &'a Value, field: &str) -> Result<&'a str> {
    record[field].as_str().ok_or_else(|| format!("no string in field {field}").into())
}

/// One record a module of the three books, in corpus order: `text`, `source` (the book), `document` (the module).
fn textbook_records(corpus: &[Value]) -> Result<Vec<Value>> {
    let mut records = Vec::new();
    for record in corpus {
        let document = string(record, "source")?;
        let text = string(record, "text")?;
        if !BOOKS.iter().any(|book| document.starts_with(book)) || text.starts_with("Preface\n") {
            continue;
        }
        let lines: Vec<&str> = text.lines().filter(|line| !PAGE_LINES.contains(&line.trim())).collect();
        let source = document.split('@').next().unwrap_or(document);
        records.push(json!({"text": lines.join("\n"), "source": source, "document": document}));
    }
    Ok(records)
}

/// Question and answer pairs: every question once, every answer once, in the order of the source.
fn question_records(pairs: &[Value]) -> Result<Vec<Value>> {
    let (mut prompts, mut completions) = (HashSet::new(), HashSet::new());
    let mut records = Vec::new();
    for pair in pairs {
        let qtype = string(pair, "qtype")?;
        if matches!(qtype, "research" | "support groups") {
            continue;
        }
        let Some(prompt) = clean_question(string(pair, "question")?) else { continue };
        let Some(completion) = clean_answer(string(pair, "answer")?) else { continue };
        if completions.contains(&completion) || !prompts.insert(prompt.to_lowercase()) {
            continue;
        }
        completions.insert(completion.clone());
        let document = string(pair, "source")?;
        records
            .push(json!({"prompt": prompt, "completion": completion, "document": document, "qtype": qtype}));
    }
    Ok(records)
}

/// `What is (are) X?` becomes `What is X?`, one question mark at the end; questions about leaflets are left out.
fn clean_question(question: &str) -> Option<String> {
    let question = question.trim().trim_end_matches('?').trim_end();
    let question = question.replace("What is (are) ", "What is ");
    let question = question.replace("Do you have information about ", "What is important to know about ");
    let leaflet =
        ["What I need to know", "Your Guide", "Frequently Asked", "is What ", "causes What ", "for What "];
    let starts_upper = question.chars().next().is_some_and(char::is_uppercase);
    (starts_upper && !leaflet.iter().any(|words| question.contains(words))).then(|| question + "?")
}

/// The answer without its echo of the question, reference numbers and credits, cut to whole leading sentences.
fn clean_answer(answer: &str) -> Option<String> {
    if FURNITURE.iter().any(|words| answer.contains(words)) {
        return None;
    }
    let answer = without_reference_numbers(&answer.split_whitespace().collect::<Vec<_>>().join(" "));
    let answer = answer.strip_prefix("Summary : ").unwrap_or(&answer);
    let answer = without_question_echo(answer);
    // A list in running text (": - one - two") is cut off with the sentence that opens it.
    let prose = answer.split(" - ").next().unwrap_or(answer);
    let limit = prose.char_indices().nth(*ANSWER_CHARACTERS.end()).map_or(prose.len(), |(index, _)| index);
    let end = sentence_ends(prose).take_while(|&end| end <= limit).last()?;
    let answer = prose[..end].trim();
    let good = ANSWER_CHARACTERS.contains(&answer.chars().count())
        && answer.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit());
    good.then(|| answer.to_owned())
}

/// Byte positions just after a full stop, exclamation or question mark that ends a sentence.
fn sentence_ends(text: &str) -> impl Iterator<Item = usize> + '_ {
    const ABBREVIATIONS: [&str; 12] =
        ["Dr.", "vs.", "e.g.", "i.e.", "St.", "No.", "approx.", "U.S.", "spp.", "al.", "etc.", "sp."];
    text.match_indices(['.', '!', '?']).filter_map(move |(index, _)| {
        let end = index + 1;
        let (head, tail) = (&text[..end], &text[end..]);
        let mut next = tail.chars();
        let boundary = match next.next() {
            None => true,
            Some(' ') => next.next().is_some_and(|c| c.is_uppercase() || c.is_ascii_digit()),
            Some(_) => false,
        };
        let word = head.rsplit([' ', '(']).next().unwrap_or(head);
        let initial = word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase());
        (boundary && !initial && !ABBREVIATIONS.contains(&word)).then_some(end)
    })
}

/// Removes `[123]`, `[123, 45]` and a footnote digit stuck to the last full stop.
fn without_reference_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        out.push_str(&rest[..open]);
        let inside = rest[open + 1..].split(']').next().unwrap_or("");
        let numbers = inside.chars().all(|c| c.is_ascii_digit() || " ,;-".contains(c));
        if numbers && !inside.is_empty() && open + 1 + inside.len() < rest.len() {
            rest = &rest[open + inside.len() + 2..];
        } else {
            out.push('[');
            rest = &rest[open + 1..];
        }
    }
    out.push_str(rest);
    let body = out.trim_end_matches(|c: char| c.is_ascii_digit() || c == ',');
    if body.ends_with('.') && body.len() < out.len() {
        out.truncate(body.len());
    }
    out
}

/// Many answers begin with their question in other words; it is removed, once or twice.
fn without_question_echo(answer: &str) -> &str {
    const STARTS: [&str; 10] =
        ["What ", "How ", "Is ", "Who ", "Are ", "Can ", "Does ", "Which ", "When ", "Why "];
    let mut answer = answer;
    for _ in 0..2 {
        let Some(mark) = answer.find('?') else { break };
        if !STARTS.iter().any(|start| answer.starts_with(start)) || answer[..mark].contains(". ") {
            break;
        }
        answer = answer[mark + 1..].trim_start();
    }
    answer
}

fn write(directory: &Path, name: &str, records: &[Value]) -> Result<()> {
    let mut plain = Vec::new();
    for record in records {
        serde_json::to_writer(&mut plain, record)?;
        plain.push(b'\n');
    }
    let packed = zstd::bulk::compress(&plain, 19)?;
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(name), &packed)?;
    println!(
        "| {name} | {} | {} | {} | `{}` |",
        records.len(),
        plain.len(),
        packed.len(),
        Sha256::digest(&packed).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    );
    Ok(())
}
