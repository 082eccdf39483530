//! Just enough SVG for a picture with labels.

use std::fmt::Write;

/// Height of small text, in the picture's units.
pub const SMALL: f64 = 11.0;
/// Width of a letter of small text, on average and rather too wide: what is told from it is where labels collide.
pub const LETTER: f64 = 6.2;

/// A point of the picture; y goes down.
pub type Point = (f64, f64);

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture under way.
pub struct Svg {
    text: String,
}

impl Svg {
    /// An empty white one.
    pub fn new(width: f64, height: f64) -> Self {
        Svg {
            text: format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
                 font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n\
                 <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
            ),
        }
    }

    pub fn line(&mut self, from: Point, to: Point, color: &str, width: f64) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.text,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\" stroke-width=\"{width}\"/>"
        );
    }

    pub fn circle(&mut self, (x, y): Point, radius: f64, color: &str) {
        let _ = writeln!(
            self.text,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{color}\" stroke=\"#fff\"/>"
        );
    }

    /// Makes what is below a text pale.
    pub fn veil(&mut self, (x, y): Point, to: Point) {
        let (width, height) = (to.0 - x, to.1 - y);
        let _ = writeln!(
            self.text,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#fff\" fill-opacity=\"0.8\"/>"
        );
    }

    /// Text at a point, turned by `degrees` around it.
    pub fn text(&mut self, (x, y): Point, degrees: f64, anchor: Anchor, size: f64, color: &str, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let turn = match degrees {
            0.0 => String::new(),
            _ => format!(" transform=\"rotate({degrees:.1} {x:.1} {y:.1})\""),
        };
        let _ = writeln!(
            self.text,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{color}\"{turn}>{}</text>",
            escape(words)
        );
    }

    /// The whole document.
    pub fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// Names come from files: what means something to XML, or may not stand in it, is replaced.
fn escape(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => text.push('\u{FFFD}'),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_leave_their_text() {
        assert_eq!(escape("a<b>&\"c\"\u{1b}"), "a&lt;b&gt;&amp;\"c\"\u{FFFD}");
    }
}
