//! The medians as a bar chart.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 330.0;
const ROW: f64 = 34.0;

/// An SVG file with one bar for each row, on a linear scale.
pub(crate) fn bars(rows: &[(&str, f64)]) -> String {
    let most = rows.iter().map(|(_, micros)| *micros).fold(1.0, f64::max);
    let scale = (WIDTH - LABELS - 110.0) / most;
    let height = ROW * rows.len() as f64 + 50.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} \
         {height}\" font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"#ffffff\"/>\n<text x=\"10\" y=\"24\" font-weight=\"bold\" fill=\"#222222\">Spawn to reaped exit of \
         the smallest program, median</text>\n"
    );
    for (n, (name, micros)) in rows.iter().enumerate() {
        let y = 42.0 + ROW * n as f64;
        let fill = if name.starts_with("belljar") { "#1f6f8b" } else { "#b0b7bd" };
        // Writing to a String cannot fail.
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#222222\">{name}</text>\
             <rect x=\"{LABELS}\" y=\"{y}\" width=\"{:.1}\" height=\"20\" fill=\"{fill}\"/>\
             <text x=\"{:.1}\" y=\"{}\" fill=\"#222222\">{:.2} ms</text>",
            LABELS - 10.0,
            y + 15.0,
            micros * scale,
            LABELS + micros * scale + 8.0,
            y + 15.0,
            micros / 1000.0
        )
        .ok();
    }
    svg.push_str("</svg>\n");
    svg
}
