//! Reads recordings and prints what they hold: `import_report binance-spot FILE…`.

use std::error::Error;
use std::fs::File;
use std::time::Instant;

use chronicle_feed::{Venue, check};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let venue: Venue = arguments.next().ok_or("usage: import_report VENUE FILE…")?.parse()?;
    for path in arguments {
        let start = Instant::now();
        let report = check(venue, &path, File::open(&path)?)?;
        println!("{report:#?}\n{:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}
