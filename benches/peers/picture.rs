//! The medians as a bar chart.

use std::fmt::Write as _;

use super::way::{Kind, Way};

const WIDTH: f64 = 860.0;
const LABELS: f64 = 250.0;
const BARS: f64 = WIDTH - LABELS - 130.0;
const ROW: f64 = 27.0;
const TOP: f64 = 66.0;
/// What the left edge of the bars stands for.
const LEAST: f64 = 50.0;

/// Readable on a dark page and on a light one.
const STYLE: &str = "text{fill:#24292f;font-family:sans-serif;font-size:13px}.title{font-weight:bold;font-size:15px}\
.note{fill:#57606a;font-size:12px}.grid{stroke:#d0d7de}.page{fill:#ffffff}.ours{fill:#0a7f6f}.command{fill:#59b3a6}\
.other{fill:#8c959f}.reference{fill:#c0a36b}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}.grid{stroke:#30363d}.page{fill:#0d1117}\
.ours{fill:#2fbfa8}.command{fill:#1f7a6c}.other{fill:#6e7681}.reference{fill:#a8895a}}";

/// An SVG file with one bar for each way, on a logarithmic scale, the fastest first.
pub(crate) fn bars(ways: &[Way<'_>], machine: &str) -> String {
    let mut rows: Vec<(&Way<'_>, f64)> = ways.iter().map(|way| (way, way.times.median())).collect();
    rows.sort_by(|a, b| a.1.total_cmp(&b.1));
    let most = rows.iter().map(|row| row.1).fold(1000.0, f64::max) * 1.1;
    let length = |micros: f64| BARS * (micros / LEAST).max(1.0).ln() / (most / LEAST).ln();
    let bottom = TOP + ROW * rows.len() as f64;
    let height = bottom + 44.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} \
         {height}\" role=\"img\">\n<title>Start to end of the smallest program, median milliseconds</title>\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"14\" y=\"26\">Start to reaped end of the smallest program in a sandbox, \
         median</text>\n\
         <text class=\"note\" x=\"14\" y=\"46\">Milliseconds, logarithmic scale: each line is ten times the one before. \
         Lower is better.</text>\n"
    );
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        svg.write_fmt(text).ok();
        svg.push('\n');
    };
    for (micros, name) in [(100.0, "0.1"), (1_000.0, "1"), (10_000.0, "10"), (100_000.0, "100")] {
        if micros > most {
            continue;
        }
        let x = LABELS + length(micros);
        line(format_args!("<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"));
        line(format_args!(
            "<text class=\"note\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{name} ms</text>",
            bottom + 16.0
        ));
    }
    for (n, (way, micros)) in rows.into_iter().enumerate() {
        let y = TOP + ROW * n as f64;
        let class = match way.kind {
            Kind::Reference => "reference",
            Kind::Ours | Kind::OursAhead => "ours",
            Kind::OurCommand => "command",
            Kind::Library | Kind::Program => "other",
        };
        let name =
            way.version.as_ref().map_or(way.name.to_owned(), |version| format!("{} {version}", way.name));
        let width = length(micros);
        let digits = if micros < 1000.0 {
            3
        } else if micros < 10_000.0 {
            2
        } else {
            1
        };
        line(format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text><rect class=\"{class}\" x=\"{LABELS}\" y=\"{}\" \
             width=\"{width:.1}\" height=\"19\" rx=\"2\"/><text x=\"{:.1}\" y=\"{}\">{:.digits$} ms</text>",
            LABELS - 10.0,
            y + 17.0,
            y + 3.0,
            LABELS + width + 8.0,
            y + 17.0,
            micros / 1000.0,
        ));
    }
    line(format_args!("<text class=\"note\" x=\"14\" y=\"{}\">{machine}</text>", height - 10.0));
    svg.push_str("</svg>\n");
    svg
}
