//! `chronicle exchange`: a local exchange to test and play with.

use crate::run::{Failure, Outcome, print_json};
use chronicle_exchange::{
    market::Symbol,
    server::{Config, Server, StartError},
    venue::Venue,
};
use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Run a local exchange: WebSocket and REST as a venue has them, a matching engine, misbehaviour on request
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle exchange --symbols btcusdt=61800.00,ethusdt=2650.00
  chronicle exchange --venue binance-usdm --symbols btcusdt --listen 127.0.0.1:9000 --seed 7 --rate 2000
  chronicle exchange --play btcusdt_20240808.gz --speed 10

Prints {\"listening\":\"127.0.0.1:PORT\"} when it is ready, and ends on SIGTERM or Ctrl-C. With the port it printed:
  curl 'http://127.0.0.1:PORT/api/v3/depth?symbol=BTCUSDT&limit=5'
  curl 'http://127.0.0.1:PORT/local/book?symbol=BTCUSDT'                          all of its own book
  curl -X POST 'http://127.0.0.1:PORT/local/misbehave?what=skip&channel=depth&after=20'
  curl -X POST 'http://127.0.0.1:PORT/local/misbehave?what=?'                     what it can do wrong
  chronicle feed --venue binance-spot --symbols btcusdt --url ws://127.0.0.1:PORT --rest-url http://127.0.0.1:PORT …

It forgets everything when it ends. Update ids begin at the present time in µs, so that one that comes back does not
repeat what it said before; --first-id 1 makes two runs with one seed alike.")]
pub(crate) struct Args {
    /// Address to listen on; port 0 = a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Whose words it speaks: binance-spot, binance-usdm, binance-coinm or kraken
    #[arg(long, default_value = "binance-spot")]
    venue: Venue,
    /// What is traded, each with a price to begin at if you like: btcusdt=61800.00
    #[arg(long, value_delimiter = ',', required_unless_present = "play", value_name = "NAME[=PRICE],…")]
    symbols: Vec<Symbol>,
    /// Play this Binance recording instead, when somebody listens; again for more symbols
    #[arg(long, value_name = "FILE", conflicts_with = "symbols")]
    play: Vec<PathBuf>,
    /// How many times as fast as it was recorded
    #[arg(long, default_value_t = 1.0, value_name = "TIMES")]
    speed: f64,
    /// Decides what the crowd does
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Orders and cancellations of the crowd in each symbol, a second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// How often depth events are sent, in ms
    #[arg(long, default_value_t = 100, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    depth_ms: u64,
    /// How often a WebSocket is pinged, in s
    #[arg(long, default_value_t = 20, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    ping_secs: u64,
    /// A WebSocket is closed after this, in s
    #[arg(long, default_value_t = 86_400, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    session_secs: u64,
    /// Where update, trade and order ids begin
    #[arg(long, value_name = "ID")]
    first_id: Option<u64>,
}

pub(crate) fn run(args: Args) -> Outcome {
    let now_us = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
    let config = Config {
        listen: args.listen,
        venue: args.venue,
        symbols: args.symbols,
        play: args.play,
        speed: args.speed,
        seed: args.seed,
        first_id: args.first_id.unwrap_or_else(now_us),
        rate: args.rate,
        depth_every: Duration::from_millis(args.depth_ms),
        ping_every: Duration::from_secs(args.ping_secs),
        session_max: Duration::from_secs(args.session_secs),
        ..Config::default()
    };
    serve(config, |address| serde_json::json!({ "listening": address.to_string() }))
}

/// Serves until SIGTERM or Ctrl-C; `ready` says what is printed once somebody can connect.
pub(crate) fn serve(config: Config, ready: impl FnOnce(SocketAddr) -> serde_json::Value) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::bind(config).await.map_err(|error| match error {
            StartError::NoSymbols
            | StartError::Both
            | StartError::NoSuchRecordings
            | StartError::Speed
            | StartError::Twice(_) => Failure::Usage(error.to_string()),
            other => other.into(),
        })?;
        let (stop, mut stopped) = tokio::sync::mpsc::channel::<()>(1);
        ctrlc::set_handler(move || {
            // Full = told already; closed = ending already.
            let _ = stop.try_send(());
        })?;
        print_json(&ready(server.address()))?;
        server
            .run(async move {
                stopped.recv().await;
            })
            .await;
        Ok::<(), Failure>(())
    })
}
