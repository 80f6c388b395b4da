//! Recorded market data, as the raw frames that an import makes of it.
//!
//! The large recordings lie beside the repository; without them the excerpt that it ships has to do, and that is said.

use chronicle_feed::{Venue, import};
use std::{
    convert::Infallible,
    fs::File,
    path::{Path, PathBuf},
};

/// One venue's file.
pub struct Recording {
    /// Whose rules it follows.
    pub venue: Venue,
    /// Where it is.
    pub path: PathBuf,
}

/// A record as it stands in the raw queue.
pub struct Raw {
    /// The frame's time.
    pub ingest_ns: u64,
    /// Which record.
    pub type_id: u16,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// All of them, one spot and two futures venues; or the shipped excerpt alone.
pub fn all() -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let data = root.join("../shared/data");
    let known = [
        ("binance-spot", "btcusdt_20240808.gz"),
        ("binance-spot", "btcusdt_20240809.gz"),
        ("binance-usdm", "btcusdt_20240808.gz"),
        ("binance-coinm", "btcusd_perp_20240808.gz"),
    ];
    let mut found: Vec<Recording> = known
        .iter()
        .filter_map(|(venue, file)| {
            let path = data.join(venue).join(file);
            Some(Recording { venue: venue.parse().ok()?, path: path.exists().then_some(path)? })
        })
        .collect();
    if found.is_empty() {
        eprintln!("recordings beside the repository are absent: the shipped excerpt alone is measured");
        let path = root.join("testdata/binance-spot/ethusdt-20240808-excerpt.gz");
        found.extend("binance-spot".parse().ok().map(|venue| Recording { venue, path }));
    }
    found
}

/// A file beside the repository, or nothing, said aloud.
pub fn bytes(file: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(file);
    let bytes = std::fs::read(&path);
    if let Err(reason) = &bytes {
        eprintln!("left out: {}: {reason}", path.display());
    }
    bytes.ok()
}

impl Recording {
    /// Venue and file, for a table.
    pub fn name(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{} {}", self.venue.name(), file.split('_').next().unwrap_or(&file))
    }

    /// The file's bytes, unpacked if they were packed: what a live feed would hand over.
    pub fn text(&self) -> Result<Vec<u8>, String> {
        use std::io::Read as _;
        let file = File::open(&self.path).map_err(|it| format!("{}: {it}", self.path.display()))?;
        let mut text = Vec::new();
        let read = flate2::read::MultiGzDecoder::new(file).read_to_end(&mut text);
        read.map_err(|it| format!("{}: {it}", self.path.display()))?;
        Ok(text)
    }

    /// Its records.
    pub fn frames(&self) -> Result<Vec<Raw>, String> {
        let file = File::open(&self.path).map_err(|it| format!("{}: {it}", self.path.display()))?;
        let mut frames = Vec::new();
        import(self.venue, "recording", file, |parsed| {
            frames.push(Raw { ingest_ns: parsed.ingest_ns, type_id: parsed.type_id, payload: parsed.payload.to_vec() });
            Ok::<(), Infallible>(())
        })
        .map_err(|it| format!("{}: {it}", self.path.display()))?;
        Ok(frames)
    }
}
