//! A venue that gives again what was stored: the local exchange plays lines in the venue's own words, written as it reads.
//!
//! ```text
//! archive ──Replay──▶ lines ──pipe──▶ local exchange ──WebSocket, REST──▶ chronicle feed, or any client of the venue
//! (a thread and a pipe for each symbol)      merges by receive time, paces, waits for listeners
//! ```

use super::Speed;
use crate::{
    exchange::serve,
    run::{Failure, Outcome, chain},
};
use chronicle::{
    System,
    etl::{
        self,
        replay::{Replay, Request},
    },
    feed::{Venue, written::write_line},
    storage::root::{Root, Stream},
};
use chronicle_exchange::{server::Config, venue};
use serde_json::json;
use std::{
    io::{PipeWriter, Write, pipe},
    net::SocketAddr,
    os::fd::AsRawFd,
    path::PathBuf,
};

/// A pipe and a thread each.
const SYMBOLS_MAX: usize = 64;
/// Faster than any machine, so that nothing is waited for but listeners.
const AT_ONCE: f64 = 1e12;

pub(super) fn run(root: &Root, request: Request, speed: Speed, listen: SocketAddr) -> Outcome {
    let mut venues: Vec<_> = request.symbols.iter().map(|(venue, _)| venue).collect();
    venues.dedup();
    let [venue] = venues[..] else {
        let named: Vec<_> = venues.iter().map(|venue| venue.as_str()).collect();
        return Err(Failure::Usage(format!(
            "--serve speaks one venue's words; --venue says whose: {}",
            named.join(", ")
        )));
    };
    let unspoken = || Failure::Usage(format!("{venue}: only Binance's venues can be served"));
    let words: Venue = venue.as_str().parse().map_err(|_| unspoken())?;
    let spoken: venue::Venue = venue.as_str().parse().map_err(|_| unspoken())?;
    if spoken == venue::Venue::Kraken {
        return Err(unspoken());
    }
    if request.symbols.len() > SYMBOLS_MAX {
        return Err(Failure::Usage(format!("at most {SYMBOLS_MAX} symbols can be served; --symbols says which")));
    }
    let mut play = Vec::new();
    // The exchange opens them by name; ours must live until it has.
    let mut ends = Vec::new();
    for symbol in &request.symbols {
        let one = Request {
            symbols: vec![symbol.clone()],
            streams: vec![Stream::Book, Stream::Trades, Stream::Quotes],
            ..request.clone()
        };
        let replay = Replay::open(&System, root, one).map_err(|error| crate::book::not_there(error, root))?;
        let (end, writer) = pipe()?;
        play.push(PathBuf::from(format!("/dev/fd/{}", end.as_raw_fd())));
        ends.push(end);
        std::thread::Builder::new().name(format!("replay {}", symbol.1)).spawn(move || {
            if let Err(error) = write(replay, words, writer) {
                eprintln!("chronicle: replay ends here: {}", chain(&error));
            }
        })?;
    }
    let speed = match speed {
        Speed::Max => AT_ONCE,
        Speed::Times(times) => times,
    };
    let symbols: Vec<_> = request.symbols.iter().map(|(_, symbol)| symbol.to_string()).collect();
    let config = Config { listen, venue: spoken, play, speed, ..Config::default() };
    serve(config, |address| {
        drop(ends);
        json!({ "listening": address.to_string(), "venue": venue, "symbols": symbols })
    })
}

/// Writes a symbol's lines as they are read; that nobody reads any more is no error.
fn write(mut replay: Replay<System>, venue: Venue, mut out: PipeWriter) -> Result<(), etl::Error> {
    let mut line = String::new();
    while let Some(event) = replay.next()? {
        line.clear();
        if write_line(venue, event.received_ns, &event.record()?, &mut line) && out.write_all(line.as_bytes()).is_err()
        {
            break;
        }
    }
    Ok(())
}
