//! A page as SVG: one file, no script, no font, nothing to fetch; light or dark as its reader is.

use super::canvas::{Align, Canvas, Frame, Image, Ink, Size, Theme};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::fmt::{self, Write as _};

/// An SVG that is being drawn.
pub(super) struct Svg {
    text: String,
}

/// A text between tags or in an attribute; what XML cannot hold at all becomes a mark.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\t' | '\n' | '\r' => f.write_char(' ')?,
                // Control characters, surrogates' neighbours, and what turns the direction of the text around it.
                '\0'..='\u{1f}'
                | '\u{7f}'..='\u{9f}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{fffe}'
                | '\u{ffff}' => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A coordinate to a tenth of a unit, without needless digits.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 * 10.0).round();
        // No drawing is so large; what is no number at all is nowhere.
        let tenths = if tenths.is_finite() { tenths.clamp(-1e7, 1e7) as i64 } else { 0 };
        let sign = if tenths < 0 { "-" } else { "" };
        match (tenths.abs() / 10, tenths.abs() % 10) {
            (whole, 0) => write!(f, "{sign}{whole}"),
            (whole, tenth) => write!(f, "{sign}{whole}.{tenth}"),
        }
    }
}

impl Svg {
    pub(super) fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut text = String::with_capacity(1 << 16);
        let (width, height) = (Number(width), Number(height));
        let _ = write!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             role=\"img\">\n<title>{}</title>\n<desc>{}</desc>\n<style>\n",
            Escaped(title),
            Escaped(description)
        );
        let themes = [(Theme::Light, ""), (Theme::Dark, "@media (prefers-color-scheme: dark) { ")];
        for (theme, open) in themes {
            text.push_str(open);
            text.push_str(":root { ");
            for ink in Ink::ALL {
                let [r, g, b] = ink.colour(theme);
                let _ = write!(text, "--{}: #{r:02x}{g:02x}{b:02x}; ", ink.name());
            }
            text.push_str(if open.is_empty() { "}\n" } else { "} }\n" });
        }
        for ink in Ink::ALL {
            let name = ink.name();
            let _ = writeln!(text, ".f-{name} {{ fill: var(--{name}); }} .s-{name} {{ stroke: var(--{name}); }}");
        }
        text.push_str(
            "svg { max-width: 100%; height: auto; }\n\
             text { font: 12px system-ui, sans-serif; font-variant-numeric: tabular-nums; }\n\
             text.title { font-size: 17px; font-weight: 600; }\n\
             path { fill: none; stroke-linejoin: round; }\n\
             .hint { fill: transparent; }\n\
             </style>\n",
        );
        Svg { text }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.text.push_str("</svg>\n");
        self.text.into_bytes()
    }

    fn rect(&mut self, frame: Frame) {
        let Frame { x, y, width, height } = frame;
        let (x, y, width, height) = (Number(x), Number(y), Number(width), Number(height));
        let _ = write!(self.text, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"");
    }
}

impl Canvas for Svg {
    fn fill(&mut self, frame: Frame, ink: Ink, opacity: f64) {
        self.rect(frame);
        let _ = write!(self.text, " class=\"f-{}\"", ink.name());
        if opacity < 1.0 {
            let _ = write!(self.text, " opacity=\"{opacity:.2}\"");
        }
        self.text.push_str("/>\n");
    }

    fn steps(&mut self, corners: &[(f64, f64)], ink: Ink, width: f64) {
        let Some(((x, y), rest)) = corners.split_first() else { return };
        let _ = write!(
            self.text,
            "<path class=\"s-{}\" stroke-width=\"{}\" d=\"M{} {}",
            ink.name(),
            Number(width),
            Number(*x),
            Number(*y)
        );
        let (mut x, mut y) = (*x, *y);
        for (next_x, next_y) in rest {
            if *next_x != x {
                let _ = write!(self.text, "H{}", Number(*next_x));
            }
            if *next_y != y {
                let _ = write!(self.text, "V{}", Number(*next_y));
            }
            (x, y) = (*next_x, *next_y);
        }
        self.text.push_str("\"/>\n");
    }

    fn dots(&mut self, places: &[(f64, f64)], ink: Ink, diameter: f64) {
        if places.is_empty() {
            return;
        }
        // A line without length and with round ends is a dot, and takes ten bytes.
        let (name, diameter) = (ink.name(), Number(diameter));
        let _ = write!(self.text, "<path class=\"s-{name}\" stroke-linecap=\"round\" stroke-width=\"{diameter}\" d=\"");
        for (x, y) in places {
            let _ = write!(self.text, "M{} {}h0", Number(*x), Number(*y));
        }
        self.text.push_str("\"/>\n");
    }

    fn text(&mut self, (x, y): (f64, f64), align: Align, size: Size, ink: Ink, text: &str) {
        let anchor = match align {
            Align::Left => "",
            Align::Centre => " text-anchor=\"middle\"",
            Align::Right => " text-anchor=\"end\"",
        };
        let class = if size == Size::Title { "title " } else { "" };
        let (x, y, name, text) = (Number(x), Number(y), ink.name(), Escaped(text));
        let _ = writeln!(self.text, "<text x=\"{x}\" y=\"{y}\"{anchor} class=\"{class}f-{name}\">{text}</text>");
    }

    fn image(&mut self, frame: Frame, image: &Image) -> std::io::Result<()> {
        let mut png = Vec::new();
        super::pixels::encode(&mut png, image)?;
        let Frame { x, y, width, height } = frame;
        let (x, y, width, height) = (Number(x), Number(y), Number(width), Number(height));
        let _ = write!(
            self.text,
            "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" preserveAspectRatio=\"none\" \
             style=\"image-rendering: pixelated\" href=\"data:image/png;base64,"
        );
        STANDARD.encode_string(&png, &mut self.text);
        self.text.push_str("\"/>\n");
        Ok(())
    }

    fn hint(&mut self, frame: Frame, text: &str) {
        self.rect(frame);
        let _ = writeln!(self.text, " class=\"hint\"><title>{}</title></rect>", Escaped(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_and_numbers_stay_within_their_place() {
        let mut svg = Svg::new(100.0, 50.0, "</title><script>", "\0\u{202e}&\u{ffff}");
        svg.text((f64::NAN, f64::INFINITY), Align::Centre, Size::Title, Ink::Text, "\"><b onload='x'>&amp;");
        svg.hint(Frame { x: -1e300, y: 0.05, width: 1.0, height: 2.5 }, "</rect>");
        svg.steps(&[(1.0, 2.0), (3.0, 2.0), (3.0, 4.04)], Ink::Bid, 1.5);
        svg.dots(&[(1.0, 2.0)], Ink::Sold, 3.0);
        let bytes = svg.finish();
        let text = std::str::from_utf8(&bytes).unwrap();
        let xml = roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(xml.descendants().all(|node| !node.has_tag_name("script") && !node.has_tag_name("b")));
        assert!(text.contains("d=\"M1 2H3V4\"") && text.contains("M1 2h0"), "{text}");
        assert!(text.contains("x=\"-1000000\" y=\"0.1\""), "{text}");
    }
}
