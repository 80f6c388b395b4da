//! What a page is drawn on: an SVG's text or a PNG's pixels, by the same few strokes.

/// What something is drawn in; each theme has its own colour for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// Behind everything.
    Paper,
    /// Behind a panel.
    Panel,
    Grid,
    Text,
    Faint,
    Bid,
    Ask,
    Mid,
    Bought,
    Sold,
    /// No valid book.
    Invalid,
    /// A valid one.
    Valid,
}

impl Ink {
    pub(super) const ALL: [Ink; 12] = [
        Ink::Paper,
        Ink::Panel,
        Ink::Grid,
        Ink::Text,
        Ink::Faint,
        Ink::Bid,
        Ink::Ask,
        Ink::Mid,
        Ink::Bought,
        Ink::Sold,
        Ink::Invalid,
        Ink::Valid,
    ];

    /// Its name in the SVG's style.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Ink::Paper => "paper",
            Ink::Panel => "panel",
            Ink::Grid => "grid",
            Ink::Text => "text",
            Ink::Faint => "faint",
            Ink::Bid => "bid",
            Ink::Ask => "ask",
            Ink::Mid => "mid",
            Ink::Bought => "bought",
            Ink::Sold => "sold",
            Ink::Invalid => "invalid",
            Ink::Valid => "valid",
        }
    }

    /// Red, green and blue. Bids are blue and asks orange, which colour-blind eyes keep apart too.
    pub(super) const fn colour(self, theme: Theme) -> [u8; 3] {
        match (theme, self) {
            (Theme::Light, Ink::Paper) => [0xff, 0xff, 0xff],
            (Theme::Light, Ink::Panel) => [0xf7, 0xf8, 0xfa],
            (Theme::Light, Ink::Grid) => [0xdd, 0xe1, 0xe6],
            (Theme::Light, Ink::Text) => [0x1b, 0x1f, 0x24],
            (Theme::Light, Ink::Faint) => [0x5b, 0x65, 0x70],
            (Theme::Light, Ink::Bid) => [0x0b, 0x6f, 0xb8],
            (Theme::Light, Ink::Ask) => [0xc8, 0x55, 0x0a],
            (Theme::Light, Ink::Mid) => [0x1b, 0x1f, 0x24],
            (Theme::Light, Ink::Bought) => [0x1d, 0x8a, 0x45],
            (Theme::Light, Ink::Sold) => [0xb3, 0x2a, 0x7c],
            (Theme::Light, Ink::Invalid) => [0xd1, 0x24, 0x2f],
            (Theme::Light, Ink::Valid) => [0x4a, 0xa5, 0x6b],
            (Theme::Dark, Ink::Paper) => [0x0f, 0x13, 0x18],
            (Theme::Dark, Ink::Panel) => [0x16, 0x1b, 0x22],
            (Theme::Dark, Ink::Grid) => [0x2c, 0x33, 0x3c],
            (Theme::Dark, Ink::Text) => [0xe8, 0xec, 0xf1],
            (Theme::Dark, Ink::Faint) => [0x97, 0xa2, 0xaf],
            (Theme::Dark, Ink::Bid) => [0x58, 0xb4, 0xf0],
            (Theme::Dark, Ink::Ask) => [0xf5, 0x9a, 0x4c],
            (Theme::Dark, Ink::Mid) => [0xe8, 0xec, 0xf1],
            (Theme::Dark, Ink::Bought) => [0x4f, 0xd0, 0x7f],
            (Theme::Dark, Ink::Sold) => [0xf0, 0x7c, 0xc1],
            (Theme::Dark, Ink::Invalid) => [0xff, 0x6b, 0x6b],
            (Theme::Dark, Ink::Valid) => [0x3f, 0x9a, 0x62],
        }
    }
}

/// Light or dark. An SVG has both and follows its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Theme {
    Light,
    Dark,
}

/// Where a text stands against its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
}

/// How large a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Normal,
    Title,
}

/// A rectangle in the page's units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Frame {
    pub(super) fn right(self) -> f64 {
        self.x + self.width
    }

    pub(super) fn bottom(self) -> f64 {
        self.y + self.height
    }
}

/// Colours with opacity, row by row from the top.
pub(super) struct Image {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Four bytes a pixel: red, green, blue, opacity.
    pub(super) rgba: Vec<u8>,
}

/// What a page needs. Lines go right, left, up and down alone, as what holds until the next event does.
pub(super) trait Canvas {
    /// A filled rectangle; opacity from 0 to 1.
    fn fill(&mut self, frame: Frame, ink: Ink, opacity: f64);
    /// A line through corners, each of which shares x or y with the one before it.
    fn steps(&mut self, corners: &[(f64, f64)], ink: Ink, width: f64);
    /// Round dots of one size.
    fn dots(&mut self, places: &[(f64, f64)], ink: Ink, diameter: f64);
    /// A text on its baseline.
    fn text(&mut self, at: (f64, f64), align: Align, size: Size, ink: Ink, text: &str);
    /// Pixels, stretched over a rectangle.
    fn image(&mut self, frame: Frame, image: &Image) -> std::io::Result<()>;
    /// What a pointer over a rectangle is told, where there are pointers.
    fn hint(&mut self, frame: Frame, text: &str);
}
