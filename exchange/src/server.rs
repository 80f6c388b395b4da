//! The sockets: one port for HTTP and WebSocket, loopback by default.
//!
//! What a client may cost is bounded: connections, the head and the body of a request and the time to send them, what
//! it says on a WebSocket and how often, and what waits for it when it does not read.

mod garbage;
mod http;
mod kraken;
mod orders;
mod session;
mod weight;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::faults::{Ending, Occasion, What};
use crate::floor::Floor;
use crate::market::Symbol;
use crate::play::{Line, Replay};
use crate::simulation::Simulation;
use crate::venue::Venue;

/// The crowd moves this often, several moves at once where more are due.
const BEAT: Duration = Duration::from_millis(5);
/// Most moves of one symbol at once: past it the exchange is slower than it was asked to be, not ever later.
const MOVES_MAX: f64 = 2_000.0;
const HEAD_LEN_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// What an exchange is like.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; port 0 = one that is free.
    pub listen: SocketAddr,
    /// Whose words it speaks.
    pub venue: Venue,
    /// What is traded; nothing where a recording is played.
    pub symbols: Vec<Symbol>,
    /// Recordings of a Binance venue to play instead of trading: one symbol each, plain or gzip.
    pub play: Vec<PathBuf>,
    /// How many times as fast as they were recorded.
    pub speed: f64,
    /// Decides what the crowd does.
    pub seed: u64,
    /// Where all ids begin. An exchange that comes back must begin beyond what it said before.
    pub first_id: u64,
    /// The crowd's moves in each symbol, a second.
    pub rate: u32,
    /// How often depth events are sent.
    pub depth_every: Duration,
    /// How often a WebSocket is pinged; one that answers none of three is closed.
    pub ping_every: Duration,
    /// A WebSocket is closed after this; Binance says 24 hours.
    pub session_max: Duration,
    /// A client for which more bytes than this wait is cut off.
    pub backlog_max: usize,
    /// Most connections at once.
    pub connections_max: usize,
    /// A WebSocket client that says more in a second is cut off.
    pub messages_per_second: u32,
    /// Weight of requests in a minute; past it they are answered with 429 and, if that is not heard, 418. A snapshot of 1000
    /// levels weighs 50.
    pub weight_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            venue: Venue::BinanceSpot,
            symbols: Vec::new(),
            play: Vec::new(),
            speed: 1.0,
            seed: 1,
            first_id: 1,
            rate: 200,
            depth_every: Duration::from_millis(100),
            ping_every: Duration::from_secs(20),
            session_max: Duration::from_secs(24 * 3_600),
            backlog_max: 8 << 20,
            connections_max: 1_024,
            messages_per_second: 10,
            weight_max: 6_000,
        }
    }
}

/// Why an exchange does not begin.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Nothing is traded.
    NoSymbols,
    /// Symbols to trade and recordings to play: it is one or the other.
    Both,
    /// Recordings are of Binance's venues.
    NoSuchRecordings,
    /// A speed that is not above 0.
    Speed,
    /// A recording cannot be read.
    Recording(PathBuf, io::Error),
    /// A symbol is named twice.
    Twice(String),
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The system gives no thread or no event loop.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSymbols => f.write_str("no symbols: name at least one"),
            Self::Both => f.write_str("symbols and recordings: a recording brings its own symbol"),
            Self::NoSuchRecordings => f.write_str("Kraken cannot be played: recordings are of Binance's venues"),
            Self::Speed => f.write_str("speed is not a number above 0"),
            Self::Recording(path, _) => write!(f, "{}: no recording that can be played", path.display()),
            Self::Twice(name) => write!(f, "symbol {name} is named twice"),
            Self::Listen(address, _) => write!(f, "{address} cannot be listened on"),
            Self::Thread(_) => f.write_str("no thread for the exchange"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen(_, error) | Self::Recording(_, error) | Self::Thread(error) => Some(error),
            Self::NoSymbols | Self::Both | Self::NoSuchRecordings | Self::Speed | Self::Twice(_) => None,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    config: Config,
    floor: Mutex<Floor>,
    weights: Mutex<weight::Weights>,
}

impl Shared {
    /// The floor. A panic while somebody held it has ended that connection and is reported; the others go on.
    fn floor(&self) -> MutexGuard<'_, Floor> {
        self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        // A clock before 1970 says 0; venues' times are not trusted anyway.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

/// An exchange that listens and has not begun to serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    lines: Option<mpsc::Receiver<Line>>,
    shared: Arc<Shared>,
}

impl Server {
    /// Opens the markets and listens.
    ///
    /// # Errors
    ///
    /// If the configuration makes no sense or the address is not to be had.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        match (config.symbols.is_empty(), config.play.is_empty()) {
            (true, true) => return Err(StartError::NoSymbols),
            (false, false) => return Err(StartError::Both),
            (true, false) if config.venue == Venue::Kraken => return Err(StartError::NoSuchRecordings),
            _ => {}
        }
        if !(config.speed > 0.0 && config.speed.is_finite()) {
            return Err(StartError::Speed);
        }
        for (at, symbol) in config.symbols.iter().enumerate() {
            if config.symbols[..at].iter().any(|other| other.name == symbol.name) {
                return Err(StartError::Twice(symbol.name.clone()));
            }
        }
        let refused = |error| StartError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let Config { venue, seed, first_id, .. } = config;
        let simulation = Simulation::open(&config.symbols, seed, first_id, venue.counting());
        let (replay, lines) = match config.play.is_empty() {
            true => (None, None),
            false => Replay::open(&config.play)
                .map(|(replay, lines)| (Some(replay), Some(lines)))
                .map_err(|(path, error)| StartError::Recording(path, error))?,
        };
        let floor = Mutex::new(Floor::new(venue, simulation, replay));
        Ok(Self { listener, address, lines, shared: Arc::new(Shared { config, floor, weights: Mutex::default() }) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` ends. What is open then is closed without a word.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, lines, shared, .. } = self;
        let permits = Arc::new(Semaphore::new(shared.config.connections_max));
        // Whatever was spawned ends with this set.
        let mut tasks = tokio::task::JoinSet::new();
        match lines {
            Some(lines) => tasks.spawn(play(lines, Arc::clone(&shared))),
            None => tasks.spawn(trade(Arc::clone(&shared))),
        };
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                accepted = accept(&listener, &permits) => {
                    let Some((stream, permit)) = accepted else { continue };
                    tasks.spawn(connection(stream, permit, Arc::clone(&shared)));
                }
                // A task that ended is forgotten at once, so that the set does not grow.
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

/// The next connection, when there is room for one.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(_) => {
            // Out of descriptors, or the client has gone: neither is better at once.
            tokio::time::sleep(Duration::from_millis(10)).await;
            None
        }
    }
}

/// Lets the crowd trade and tells what changed.
async fn trade(shared: Arc<Shared>) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = 0.0;
    let mut last = beats.tick().await;
    let mut told = last;
    loop {
        let now = beats.tick().await;
        let passed = now.duration_since(last).as_secs_f64();
        last = now;
        due = f64::min(due + passed * f64::from(shared.config.rate), MOVES_MAX);
        let now_ms = shared.now_ms();
        let mut floor = shared.floor();
        floor.step(due as u64, now_ms);
        due = due.fract();
        if now.duration_since(told) >= shared.config.depth_every {
            told = now;
            floor.flush(now_ms);
        }
    }
}

/// Plays recordings while somebody listens: the time between two lines is what it was, divided by the speed.
async fn play(mut lines: mpsc::Receiver<Line>, shared: Arc<Shared>) {
    let mut clock: Option<(Instant, u64)> = None;
    while let Some(line) = lines.recv().await {
        while shared.floor().holds() {
            clock = None;
            tokio::time::sleep(BEAT).await;
        }
        let (begin, first_ns) = *clock.get_or_insert_with(|| (Instant::now(), line.time_ns));
        let passed = Duration::from_nanos(line.time_ns.saturating_sub(first_ns)).as_secs_f64();
        // Past a year nobody waits; it also keeps the sum in range.
        let due = begin + Duration::from_secs_f64((passed / shared.config.speed).min(31_536_000.0));
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        } else if line.time_ns.is_multiple_of(64) {
            // At high speed nothing is waited for, but others have their turn.
            tokio::task::yield_now().await;
        }
        shared.floor().play(line);
    }
    shared.floor().played();
}

/// Serves one connection to its end.
async fn connection(stream: TcpStream, permit: OwnedSemaphorePermit, shared: Arc<Shared>) {
    // A small answer must not wait for a bigger one; where the system refuses that, it is only slower.
    let _ = stream.set_nodelay(true);
    for what in shared.floor().faults.fire(Occasion::Accept, "") {
        if let What::CloseAt(ending) = what {
            if ending == Ending::Reset {
                // If that fails the connection ends in order, which a client must survive as well.
                let _ = stream.set_zero_linger();
            }
            return;
        }
    }
    // A second name of the socket, by which a reset can still be asked for when hyper owns the first.
    let second: Option<OwnedFd> = stream.as_fd().try_clone_to_owned().ok();
    let reset = Arc::new(AtomicBool::new(false));
    let permit = Arc::new(permit);
    let service =
        service_fn(|request| http::answer(request, Arc::clone(&shared), Arc::clone(&permit), Arc::clone(&reset)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    // What a client does to its own connection is its own affair.
    drop(served);
    // ORDERING: Relaxed: set by the service above, which has ended, in this task.
    if reset.load(Ordering::Relaxed)
        && let Some(second) = second
        && let Ok(stream) = TcpStream::from_std(std::net::TcpStream::from(second))
    {
        let _ = stream.set_zero_linger();
    }
}

/// An exchange on a thread of its own, for tests: it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Begins to serve.
    ///
    /// # Errors
    ///
    /// As [`Server::bind`], and if there is no thread.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let server = runtime.block_on(Server::bind(config))?;
        let address = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            runtime.block_on(server.run(async {
                // The sender says nothing: that it is gone is the message.
                let _ = stopped.await;
            }));
        };
        let thread =
            std::thread::Builder::new().name("exchange".to_owned()).spawn(serve).map_err(StartError::Thread)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed by then.
            let _ = thread.join();
        }
    }
}
