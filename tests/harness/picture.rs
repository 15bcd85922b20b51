//! A terminal's screen as a picture that a browser shows.

use std::fmt::Write as _;

use vt100::Color;

/// What one character takes, in pixels.
const WIDTH: f32 = 8.4;
const LINE: f32 = 19.0;
const MARGIN: f32 = 16.0;
/// The bar on top, as windows have it.
const BAR: f32 = 28.0;

const BACKGROUND: &str = "#1b1f27";
const FOREGROUND: &str = "#d7dae0";
/// The sixteen colours, the dark ones first.
const COLORS: [&str; 16] = [
    "#5c6370", "#e06c75", "#98c379", "#d19a66", "#61afef", "#c678dd", "#56b6c2", "#d7dae0", "#7f848e", "#e06c75",
    "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#ffffff",
];

/// What is drawn alike: the characters of one line that stand together.
struct Run {
    column: u16,
    text: String,
    style: String,
}

/// Draws a screen down to its last line with anything on it, as SVG.
pub fn svg(screen: &vt100::Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let lines: Vec<Vec<Run>> = (0..rows).map(|row| runs(screen, row, columns)).collect();
    let used = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    let width = f32::from(columns).mul_add(WIDTH, 2.0 * MARGIN);
    let height = (used as f32).mul_add(LINE, BAR + 2.0 * MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for (number, color) in ["#e06c75", "#e5c07b", "#98c379"].iter().enumerate() {
        let x = (number as f32).mul_add(18.0, MARGIN + 6.0);
        let _ = writeln!(text, "<circle cx=\"{x}\" cy=\"18\" r=\"6\" fill=\"{color}\"/>");
    }
    let _ = writeln!(
        text,
        "<g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"14\" \
         fill=\"{FOREGROUND}\" xml:space=\"preserve\">"
    );
    for (number, line) in lines.iter().take(used).enumerate() {
        let y = ((number + 1) as f32).mul_add(LINE, BAR + MARGIN - 5.0);
        for run in line {
            let x = f32::from(run.column).mul_add(WIDTH, MARGIN);
            let length = run.text.chars().count() as f32 * WIDTH;
            let _ = writeln!(
                text,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{length:.1}\"{}>{}</text>",
                run.style,
                escaped(&run.text)
            );
        }
    }
    text.push_str("</g>\n</svg>\n");
    text
}

fn runs(screen: &vt100::Screen, row: u16, columns: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else { continue };
        let style = style(cell);
        let content = if cell.has_contents() { cell.contents() } else { " " };
        match runs.last_mut() {
            Some(run) if run.style == style => run.text.push_str(content),
            _ => runs.push(Run { column, text: content.to_owned(), style }),
        }
    }
    for run in &mut runs {
        run.text.truncate(run.text.trim_end().len());
        let blank = run.text.len() - run.text.trim_start().len();
        run.column += u16::try_from(blank).unwrap();
        run.text.drain(..blank);
    }
    runs.retain(|run| !run.text.is_empty());
    runs
}

fn style(cell: &vt100::Cell) -> String {
    let mut style = String::new();
    if let Color::Idx(index) = cell.fgcolor()
        && let Some(color) = COLORS.get(usize::from(index))
    {
        let _ = write!(style, " fill=\"{color}\"");
    }
    if cell.bold() {
        style.push_str(" font-weight=\"bold\"");
    }
    if cell.dim() {
        style.push_str(" opacity=\"0.65\"");
    }
    style
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
