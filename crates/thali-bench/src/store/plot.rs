//! Dots on a logarithmic axis: a row for each case, a dot for each contender with the span of its runs, a line at the
//! goal. SVG as text, readable on light and dark pages alike.

use std::fmt::Write;

pub struct Plot {
    pub title: String,
    pub rows: Vec<Row>,
}

pub struct Row {
    pub label: String,
    pub dots: Vec<Dot>,
    pub goal: Option<f64>,
}

pub struct Dot {
    pub name: String,
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 62.0;
const ROW: f64 = 26.0;
const BOTTOM: f64 = 34.0;
/// Of contenders; with more, they begin again. Blue and orange are told apart by most eyes, on both pages.
const COLOURS: [&str; 4] = ["#2f7ed8", "#e8833a", "#4aa564", "#b45cc4"];
pub(super) const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#333}.t{font-size:14px;font-weight:600}\
    .g{stroke:#8884}.goal{stroke:#333;stroke-width:2;stroke-dasharray:3 2}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}.goal{stroke:#ddd}}";

impl Plot {
    /// `None`: there is nothing above zero to show.
    pub fn svg(&self) -> Option<String> {
        let axis = Axis::over(
            self.rows
                .iter()
                .flat_map(|row| row.dots.iter().flat_map(|dot| [dot.low, dot.high]).chain(row.goal)),
        )?;
        let height = TOP + ROW * self.rows.len() as f64 + BOTTOM;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n<text class=\"t\" x=\"10\" y=\"20\">{0}</text>\n",
            escaped(&self.title)
        );
        self.legend(&mut out);
        let bottom = height - BOTTOM;
        for tick in axis.ticks() {
            let x = axis.at(tick);
            line(&mut out, "g", (x, TOP - 6.0), (x, bottom));
            text(&mut out, "middle", (x, bottom + 16.0), &super::shown(tick));
        }
        for (at, row) in self.rows.iter().enumerate() {
            let y = TOP + ROW * (at as f64 + 0.5);
            text(&mut out, "end", (LEFT - 10.0, y + 4.0), &row.label);
            row.draw(&mut out, &axis, y);
        }
        out.push_str("</svg>\n");
        Some(out)
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for dot in self.rows.iter().flat_map(|row| &row.dots) {
            if !names.contains(&dot.name.as_str()) {
                names.push(&dot.name);
            }
        }
        names
    }

    fn legend(&self, out: &mut String) {
        let mut x = LEFT;
        for (at, name) in self.names().into_iter().enumerate() {
            dot(out, (x, 40.0), colour(at));
            text(out, "start", (x + 10.0, 44.0), name);
            x += 40.0 + 7.0 * name.len() as f64;
        }
        line(out, "goal", (x, 32.0), (x, 48.0));
        text(out, "start", (x + 8.0, 44.0), "goal");
    }
}

impl Row {
    fn draw(&self, out: &mut String, axis: &Axis, y: f64) {
        if let Some(goal) = self.goal {
            let x = axis.at(goal);
            line(out, "goal", (x, y - 11.0), (x, y + 11.0));
        }
        for (at, contender) in self.dots.iter().enumerate() {
            // A little above one another, so that equal ones are seen.
            let y = y + 6.0 * (at as f64 - (self.dots.len() - 1) as f64 / 2.0);
            let (low, high) = (axis.at(contender.low), axis.at(contender.high));
            let colour = colour(at);
            let _ = writeln!(
                out,
                "<path d=\"M{low:.1} {y:.1}H{high:.1}\" stroke=\"{colour}\" stroke-width=\"2\" opacity=\".6\"/>"
            );
            dot(out, (axis.at(contender.median), y), colour);
        }
    }
}

fn colour(at: usize) -> &'static str {
    COLOURS[at % COLOURS.len()]
}

fn dot(out: &mut String, (x, y): (f64, f64), colour: &str) {
    let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"/>");
}

fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, anchor: &str, (x, y): (f64, f64), words: &str) {
    let words = escaped(words);
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

/// As text of an SVG.
pub(super) fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// From the least value to the greatest, with some room.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = values
            .filter(|value| *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        (high > 0.0).then(|| Self { low: low / 1.3, high: high * 1.3 })
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    /// 1, 2 and 5 of each power of ten; over more than two powers the 1 alone.
    fn ticks(&self) -> Vec<f64> {
        let steps: &[f64] = if self.high / self.low > 100.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
        powers
            .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
            .filter(|tick| (self.low..=self.high).contains(tick))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_lie_where_their_values_do() {
        let axis = Axis::over([1.0, 100.0].into_iter()).unwrap();
        assert!(axis.at(10.0) > axis.at(1.0) && axis.at(100.0) < WIDTH - RIGHT && axis.at(1.0) > LEFT);
        assert!((axis.at(10.0) - axis.at(1.0) - (axis.at(100.0) - axis.at(10.0))).abs() < 1e-6);
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0]);
    }

    #[test]
    fn names_are_escaped_and_nothing_is_no_picture() {
        let dot = Dot { name: "a<b".to_owned(), median: 2.0, low: 1.0, high: 3.0 };
        let row = Row { label: "x & y".to_owned(), dots: vec![dot], goal: Some(1.5) };
        let svg = Plot { title: "t".to_owned(), rows: vec![row] }.svg().unwrap();
        assert!(svg.contains("a&lt;b") && svg.contains("x &amp; y") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(Plot { title: String::new(), rows: vec![] }.svg().is_none());
    }
}
