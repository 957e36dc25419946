//! Line and bar charts as SVG text, readable without colour (each series is named at its end, each bar has its
//! value).

use std::fmt::Write as _;

use super::escape;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 44.0;
const COLORS: [&str; 5] = ["#1f5fa8", "#c2571a", "#3a7d44", "#7a3b8f", "#55636f"];

/// A named sequence of points.
pub struct Series {
    /// Shown at the end of the line.
    pub name: String,
    /// `(x, y)`, ascending in x.
    pub points: Vec<(f64, f64)>,
}

/// Lines over a common axis, with horizontal reference lines `(name, y)`.
pub fn lines(
    title: &str,
    (x_label, y_label): (&str, &str),
    series: &[Series],
    references: &[(String, f64)],
) -> String {
    let points =
        || series.iter().flat_map(|series| &series.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let xs = extent(points().map(|(x, _)| *x));
    let ys = extent(points().map(|(_, y)| *y).chain(references.iter().map(|(_, y)| *y)));
    let frame = Frame { xs, ys: pad(ys) };
    let mut svg = frame.open(title, x_label, y_label);
    for (index, (name, y)) in references.iter().enumerate() {
        let (y, color) = (frame.y(*y), COLORS[(index + 3) % COLORS.len()]);
        _ = writeln!(
            svg,
            r#"<line x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}" stroke="{color}" stroke-dasharray="5 4"/>"#,
            WIDTH - RIGHT
        );
        text(&mut svg, (WIDTH - RIGHT + 6.0, y + 4.0), "start", color, name);
    }
    for (series, color) in series.iter().zip(COLORS.iter().cycle()) {
        let path: Vec<String> =
            series.points.iter().map(|(x, y)| format!("{:.1},{:.1}", frame.x(*x), frame.y(*y))).collect();
        _ = writeln!(
            svg,
            r#"<polyline fill="none" stroke="{color}" stroke-width="1.8" points="{}"/>"#,
            path.join(" ")
        );
        if let [(x, y)] = series.points[..] {
            let (x, y) = (frame.x(x), frame.y(y));
            _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{color}"/>"#);
        }
        if let Some((x, y)) = series.points.last() {
            text(&mut svg, (frame.x(*x) + 6.0, frame.y(*y) + 4.0), "start", color, &series.name);
        }
    }
    svg + "</svg>"
}

/// A named value with an optional interval.
pub struct Bar {
    /// Shown below the bar.
    pub name: String,
    /// Height.
    pub value: f64,
    /// 95% interval.
    pub interval: Option<(f64, f64)>,
}

/// Bars from zero, each with its value above it.
pub fn bars(title: &str, y_label: &str, bars: &[Bar]) -> String {
    let high = bars.iter().map(|bar| bar.interval.map_or(bar.value, |(_, high)| high)).fold(0.0, f64::max);
    let frame = Frame { xs: (0.0, bars.len() as f64), ys: (0.0, if high > 0.0 { high * 1.15 } else { 1.0 }) };
    let mut svg = frame.open(title, "", y_label);
    for (index, bar) in bars.iter().enumerate() {
        let (left, right) = (frame.x(index as f64 + 0.2), frame.x(index as f64 + 0.8));
        let (top, middle) = (frame.y(bar.value), (left + right) / 2.0);
        let height = frame.y(0.0) - top;
        let color = COLORS[0];
        _ = writeln!(
            svg,
            r#"<rect x="{left:.1}" y="{top:.1}" width="{:.1}" height="{height:.1}" fill="{color}" opacity="0.75"/>"#,
            right - left
        );
        if let Some((low, high)) = bar.interval {
            let (low, high) = (frame.y(low), frame.y(high));
            _ = writeln!(
                svg,
                r##"<path d="M{middle:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8" stroke="#1c2733"/>"##,
                middle - 4.0,
                middle - 4.0
            );
        }
        let above = bar.interval.map_or(top, |(_, high)| frame.y(high));
        text(&mut svg, (middle, above - 6.0), "middle", "#1c2733", &short(bar.value));
        text(&mut svg, (middle, HEIGHT - BOTTOM + 18.0), "middle", "#1c2733", &bar.name);
    }
    svg + "</svg>"
}

/// Ranges of the data that fill the drawing area.
struct Frame {
    xs: (f64, f64),
    ys: (f64, f64),
}

impl Frame {
    fn x(&self, x: f64) -> f64 {
        LEFT + (x - self.xs.0) / (self.xs.1 - self.xs.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - (y - self.ys.0) / (self.ys.1 - self.ys.0) * (HEIGHT - TOP - BOTTOM)
    }

    /// The opening tag, title, axis labels and grid.
    fn open(&self, title: &str, x_label: &str, y_label: &str) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"system-ui,sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"{}\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            escape(title)
        );
        text(&mut svg, (LEFT, 16.0), "start", "#1c2733", title);
        for tick in ticks(self.ys) {
            let y = self.y(tick);
            _ = writeln!(
                svg,
                r##"<line x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}" stroke="#e3e8ed"/>"##,
                WIDTH - RIGHT
            );
            text(&mut svg, (LEFT - 6.0, y + 4.0), "end", "#55636f", &short(tick));
        }
        if !x_label.is_empty() {
            for tick in ticks(self.xs) {
                text(&mut svg, (self.x(tick), HEIGHT - BOTTOM + 16.0), "middle", "#55636f", &short(tick));
            }
            text(&mut svg, ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0), "middle", "#55636f", x_label);
        }
        _ = writeln!(
            svg,
            r##"<text transform="translate(14 {:.1}) rotate(-90)" text-anchor="middle" fill="#55636f">{}</text>"##,
            (TOP + HEIGHT - BOTTOM) / 2.0,
            escape(y_label)
        );
        svg
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, color: &str, content: &str) {
    _ = writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{color}">{}</text>"#,
        escape(content)
    );
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    match (low.is_finite(), high > low) {
        (true, true) => (low, high),
        (true, false) => (low, low + 1.0),
        _ => (0.0, 1.0),
    }
}

fn pad((low, high): (f64, f64)) -> (f64, f64) {
    let margin = (high - low) * 0.05;
    (low - margin, high + margin)
}

/// Four to eight round numbers inside the range.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    (first..).map(|index| index as f64 * step).take_while(|tick| *tick <= high).collect()
}

/// At most three significant decimals.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 {
        let text = format!("{value:.1e}");
        return text.replace(".0e", "e");
    }
    let decimals = match value.abs() {
        large if large >= 100.0 => 0,
        medium if medium >= 10.0 => 1,
        small if small >= 0.1 || small == 0.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_land_where_the_axes_say() {
        let frame = Frame { xs: (0.0, 10.0), ys: (0.0, 2.0) };
        assert_eq!((frame.x(0.0), frame.x(10.0)), (LEFT, WIDTH - RIGHT));
        assert_eq!((frame.y(0.0), frame.y(2.0)), (HEIGHT - BOTTOM, TOP));
        assert_eq!(ticks((0.0, 10.0)), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!([short(0.0312), short(4.0), short(1234.6)], ["0.031", "4", "1235"].map(String::from));
        assert_eq!([short(0.0015), short(-0.002), short(0.0)], ["1.5e-3", "-2e-3", "0"].map(String::from));
    }

    #[test]
    fn odd_data_still_draws_finite_coordinates() {
        let odd = [vec![], vec![(0.0, 1.0)], vec![(0.0, 1.0), (1.0, 1.0)]];
        for points in odd {
            let svg =
                lines("t", ("x", "y"), &[Series { name: "a<b".into(), points }], &[("base".into(), 2.0)]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(!bars("t", "y", &[Bar { name: "n".into(), value: 0.0, interval: None }]).contains("NaN"));
    }
}
