//! Reports written once as blocks and rendered twice: Markdown with plots beside it, and one HTML file.

pub mod plot;

use std::fmt::Write as _;

/// One element of a report.
pub enum Block {
    /// A section title.
    Heading(String),
    /// Plain text.
    Paragraph(String),
    /// A table; the first column is left-aligned, the others right-aligned.
    Table {
        /// Column titles.
        header: Vec<String>,
        /// Cells, one list a row.
        rows: Vec<Vec<String>>,
    },
    /// A drawing.
    Plot {
        /// File name without ending, unique in the report.
        name: String,
        /// What it shows, in words.
        caption: String,
        /// The SVG.
        svg: String,
    },
    /// Text that is shown line by line as it is.
    Preformatted(String),
    /// A question and its answers, each by somebody.
    Dialogue(Vec<(String, String)>),
}

/// A report under a title.
pub struct Report {
    title: String,
    blocks: Vec<Block>,
}

impl Report {
    /// An empty report.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), blocks: Vec::new() }
    }

    /// Appends a block.
    pub fn push(&mut self, block: Block) {
        self.blocks.push(block);
    }

    /// Appends a section title.
    pub fn heading(&mut self, text: impl Into<String>) {
        self.push(Block::Heading(text.into()));
    }

    /// Appends a paragraph.
    pub fn paragraph(&mut self, text: impl Into<String>) {
        self.push(Block::Paragraph(text.into()));
    }

    /// Appends a table.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) {
        self.push(Block::Table { header: header.iter().map(|cell| (*cell).into()).collect(), rows });
    }

    /// The plots as `(file name, SVG)`, to be stored beside the Markdown.
    pub fn plots(&self) -> impl Iterator<Item = (String, &str)> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Plot { name, svg, .. } => Some((format!("{name}.svg"), svg.as_str())),
            _ => None,
        })
    }

    /// Markdown that shows the plots from their files.
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# {}\n", self.title);
        for block in &self.blocks {
            out.push('\n');
            match block {
                Block::Heading(text) => _ = writeln!(out, "## {text}"),
                Block::Paragraph(text) => _ = writeln!(out, "{text}"),
                Block::Table { header, rows } => markdown_table(&mut out, header, rows),
                Block::Plot { name, caption, .. } => _ = writeln!(out, "![{caption}]({name}.svg)"),
                Block::Preformatted(text) => _ = writeln!(out, "```text\n{}\n```", text.trim_end()),
                Block::Dialogue(turns) => {
                    for (speaker, text) in turns {
                        let quoted = text.trim().replace('\n', "\n> ");
                        _ = writeln!(out, "> **{speaker}**: {quoted}\n>");
                    }
                }
            }
        }
        out
    }

    /// One self-contained HTML page.
    pub fn to_html(&self) -> String {
        let mut body = format!("<h1>{}</h1>\n", escape(&self.title));
        for block in &self.blocks {
            match block {
                Block::Heading(text) => _ = writeln!(body, "<h2>{}</h2>", escape(text)),
                Block::Paragraph(text) => _ = writeln!(body, "<p>{}</p>", inline(text)),
                Block::Table { header, rows } => html_table(&mut body, header, rows),
                Block::Plot { caption, svg, .. } => {
                    _ = writeln!(body, "<figure>{svg}<figcaption>{}</figcaption></figure>", escape(caption));
                }
                Block::Preformatted(text) => _ = writeln!(body, "<pre>{}</pre>", escape(text)),
                Block::Dialogue(turns) => {
                    body.push_str("<dl>\n");
                    for (speaker, text) in turns {
                        _ = writeln!(body, "<dt>{}</dt><dd>{}</dd>", escape(speaker), escape(text.trim()));
                    }
                    body.push_str("</dl>\n");
                }
            }
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n",
            escape(&self.title)
        )
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1c2733}\
h1,h2{line-height:1.2}table{border-collapse:collapse;margin:1rem 0;font-size:.92rem}\
th,td{padding:.3rem .7rem;border-bottom:1px solid #d8dee5;text-align:right}th:first-child,td:first-child{text-align:left}\
figure{margin:1.5rem 0}figcaption{font-size:.9rem;color:#55636f}svg{max-width:100%;height:auto}\
dl{border-left:3px solid #c3ccd5;padding-left:1rem}dt{font-weight:600}dd{margin:0 0 .7rem}\
pre{background:#eef1f4;padding:.7rem;overflow-x:auto;font-size:.85rem}code{background:#eef1f4;padding:.1rem .3rem;border-radius:3px}";

fn markdown_table(out: &mut String, header: &[String], rows: &[Vec<String>]) {
    _ = writeln!(out, "| {} |", header.join(" | "));
    _ = writeln!(out, "|---|{}", "---:|".repeat(header.len().saturating_sub(1)));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        _ = writeln!(out, "| {} |", cells.join(" | "));
    }
}

fn html_table(out: &mut String, header: &[String], rows: &[Vec<String>]) {
    let line = |cells: &[String], tag: &str| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", inline(cell))).collect()
    };
    _ = writeln!(out, "<table><thead><tr>{}</tr></thead><tbody>", line(header, "th"));
    for row in rows {
        _ = writeln!(out, "<tr>{}</tr>", line(row, "td"));
    }
    out.push_str("</tbody></table>\n");
}

/// Escaped text in which `code` in backticks becomes an element.
fn inline(text: &str) -> String {
    let parts: Vec<String> = text.split('`').map(escape).collect();
    if parts.len().is_multiple_of(2) {
        return escape(text);
    }
    let tagged = |(index, part): (usize, &String)| {
        if index % 2 == 1 { format!("<code>{part}</code>") } else { part.clone() }
    };
    parts.iter().enumerate().map(tagged).collect()
}

/// Text that HTML and SVG show as it is.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_it_is_in_both_forms() {
        let mut report = Report::new("a < b");
        report.paragraph("run `x <y>` & see");
        report.table(&["model", "loss"], vec![vec!["a|b".into(), "1".into()]]);
        report.push(Block::Dialogue(vec![("you".into(), "<script>\nalert(1)".into())]));
        report.push(Block::Plot { name: "p".into(), caption: "a plot".into(), svg: "<svg></svg>".into() });
        let (markdown, html) = (report.to_markdown(), report.to_html());
        assert!(markdown.contains("| a\\|b | 1 |") && markdown.contains("![a plot](p.svg)"), "{markdown}");
        assert!(html.contains("<code>x &lt;y&gt;</code> &amp; see"), "{html}");
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"), "{html}");
        assert_eq!(report.plots().map(|(name, _)| name).collect::<Vec<_>>(), ["p.svg"]);
    }
}
