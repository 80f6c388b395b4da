//! A page as PNG: two pixels for each unit, glyphs that come with the program, no font asked of the machine.

use super::canvas::{Align, Canvas, Frame, Image, Ink, Size, Theme};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use std::io;

/// Pixels for a unit.
const SCALE: f64 = 2.0;

/// A picture that is being drawn.
pub(super) struct Pixels {
    width: usize,
    height: usize,
    /// Three bytes a pixel.
    rgb: Vec<u8>,
    theme: Theme,
}

impl Pixels {
    pub(super) fn new(width: f64, height: f64, theme: Theme) -> Self {
        let (width, height) = ((width * SCALE) as usize, (height * SCALE) as usize);
        Pixels { width, height, rgb: vec![0; width * height * 3], theme }
    }

    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut encoder = encoder(&mut out, self.width, self.height, png::ColorType::Rgb)?;
        encoder.write_image_data(&self.rgb)?;
        encoder.finish()?;
        Ok(out)
    }

    fn blend(&mut self, x: usize, y: usize, colour: [u8; 3], opacity: f64) {
        if x >= self.width || y >= self.height {
            return;
        }
        let at = (y * self.width + x) * 3;
        for (channel, new) in self.rgb[at..at + 3].iter_mut().zip(colour) {
            *channel = (f64::from(*channel) + (f64::from(new) - f64::from(*channel)) * opacity).round() as u8;
        }
    }

    /// Whole pixels, at least one each way.
    fn block(&mut self, frame: Frame, colour: [u8; 3], opacity: f64) {
        let at = |value: f64| (value * SCALE).round().max(0.0) as usize;
        let (left, top) = (at(frame.x), at(frame.y));
        let (right, bottom) = (at(frame.right()).max(left + 1), at(frame.bottom()).max(top + 1));
        for y in top..bottom.min(self.height) {
            for x in left..right.min(self.width) {
                self.blend(x, y, colour, opacity);
            }
        }
    }
}

fn encoder(
    out: &mut Vec<u8>,
    width: usize,
    height: usize,
    colour: png::ColorType,
) -> io::Result<png::Writer<&mut Vec<u8>>> {
    let side = |len: usize| u32::try_from(len).map_err(io::Error::other);
    let mut encoder = png::Encoder::new(out, side(width)?, side(height)?);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    Ok(encoder.write_header()?)
}

/// An image as PNG.
pub(super) fn encode(out: &mut Vec<u8>, image: &Image) -> io::Result<()> {
    let mut encoder = encoder(out, image.width, image.height, png::ColorType::Rgba)?;
    encoder.write_image_data(&image.rgba)?;
    Ok(encoder.finish()?)
}

impl Canvas for Pixels {
    fn fill(&mut self, frame: Frame, ink: Ink, opacity: f64) {
        self.block(frame, ink.colour(self.theme), opacity);
    }

    fn steps(&mut self, corners: &[(f64, f64)], ink: Ink, width: f64) {
        let half = width / 2.0;
        for pair in corners.windows(2) {
            let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
            let frame = Frame {
                x: x0.min(x1) - half,
                y: y0.min(y1) - half,
                width: (x1 - x0).abs() + width,
                height: (y1 - y0).abs() + width,
            };
            self.block(frame, ink.colour(self.theme), 1.0);
        }
    }

    fn dots(&mut self, places: &[(f64, f64)], ink: Ink, diameter: f64) {
        let radius = diameter / 2.0 * SCALE;
        for (x, y) in places {
            let (x, y) = (x * SCALE, y * SCALE);
            let reach = radius.ceil() as i64 + 1;
            for row in y as i64 - reach..=y as i64 + reach {
                for column in x as i64 - reach..=x as i64 + reach {
                    let distance = (column as f64 + 0.5 - x).hypot(row as f64 + 0.5 - y);
                    // Its edge is smooth over one pixel.
                    let opacity = (radius - distance + 0.5).clamp(0.0, 1.0);
                    if let (Ok(column), Ok(row)) = (usize::try_from(column), usize::try_from(row)) {
                        self.blend(column, row, ink.colour(self.theme), opacity);
                    }
                }
            }
        }
    }

    fn text(&mut self, (x, y): (f64, f64), align: Align, size: Size, ink: Ink, text: &str) {
        let height = match size {
            Size::Normal => RasterHeight::Size24,
            Size::Title => RasterHeight::Size32,
        };
        let advance = get_raster_width(FontWeight::Regular, height);
        let width = advance * text.chars().count();
        let left = x * SCALE
            - match align {
                Align::Left => 0.0,
                Align::Centre => width as f64 / 2.0,
                Align::Right => width as f64,
            };
        // The glyphs' baseline lies four fifths down their box.
        let top = y * SCALE - height.val() as f64 * 0.8;
        for (index, c) in text.chars().enumerate() {
            let glyph = get_raster(c, FontWeight::Regular, height).or(get_raster('?', FontWeight::Regular, height));
            for (row, line) in glyph.iter().flat_map(|glyph| glyph.rows().enumerate()) {
                for (column, opacity) in line.iter().enumerate().filter(|(_, opacity)| **opacity > 0) {
                    let (x, y) = (left + (index * advance + column) as f64, top + row as f64);
                    if x >= 0.0 && y >= 0.0 {
                        let colour = ink.colour(self.theme);
                        self.blend(x as usize, y as usize, colour, f64::from(*opacity) / 255.0);
                    }
                }
            }
        }
    }

    fn image(&mut self, frame: Frame, image: &Image) -> io::Result<()> {
        if image.width == 0 || image.height == 0 {
            return Ok(());
        }
        let at = |value: f64| (value * SCALE).round().max(0.0) as usize;
        let (left, top, right, bottom) = (at(frame.x), at(frame.y), at(frame.right()), at(frame.bottom()));
        for y in top..bottom {
            for x in left..right {
                let column = (x - left) * image.width / (right - left);
                let row = (y - top) * image.height / (bottom - top);
                if let [r, g, b, opacity] = image.rgba[(row * image.width + column) * 4..][..4] {
                    self.blend(x, y, [r, g, b], f64::from(opacity) / 255.0);
                }
            }
        }
        Ok(())
    }

    fn hint(&mut self, _: Frame, _: &str) {}
}
