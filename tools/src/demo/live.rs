//! The live demo: a local exchange, everything that follows it, and processes that die.
//!
//! The exchange is the world outside: it is asked to misbehave, and at the end what it says of itself is the truth that
//! the judge goes by. So it is never killed. Everything else is, and is started again: what survives is on disk, in shared
//! memory, and at the exchange.

mod chaos;
mod exchange;
pub(super) mod judge;
mod ledger;
pub(super) mod router;
pub(super) mod strategy;
mod witness;

use super::{
    Killed, Place, Sabotage, Stage, Summary, check, flip_byte, refinery, tier,
    worker::{Crew, Ears, Id},
};
use crate::run::{Failure, Outcome};
use chronicle::{
    System,
    bus::{Entry, Layout, look},
    feed::Venue,
    platform::Platform,
};
use chronicle_exchange::random::Random;
use clap::ValueEnum as _;
use exchange::Exchange;
use serde::Serialize;
use serde_json::Value;
use std::{
    ffi::OsString,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};
use witness::Witness;

/// How long is traded, unless it is said.
const SECONDS: u32 = 5;
const SECONDS_CHAOS: u32 = 20;
const VENUE: Venue = Venue::BinanceSpot;
const SYMBOLS: [(&str, &str); 2] = [("BTCUSDT", "61800.00"), ("ETHUSDT", "2650.00")];
/// How many frames the refinery has taken in when it is killed, if nothing else is said.
const HOLD_AT: &str = "400";
/// In what time the exchange's books are noted.
const NOTE_EVERY: Duration = Duration::from_millis(200);
/// How long the feed has to have whole books again, whatever was done to it: it tries again after half a minute at most.
const WHOLE_MAX: Duration = Duration::from_secs(100);

/// A command on the demo's leash: it ends when the demo does.
#[derive(clap::Args)]
pub(crate) struct HeldArgs {
    /// Directory of the demo that holds it, for who looks at the list of processes.
    #[arg(long)]
    by: PathBuf,
    #[command(subcommand)]
    command: Held,
}

#[derive(clap::Subcommand)]
enum Held {
    Exchange(crate::exchange::Args),
    Feed(Box<crate::feed::Args>),
}

pub(super) fn held(args: HeldArgs) -> Outcome {
    let _ears = Ears::open();
    match args.command {
        Held::Exchange(args) => crate::exchange::run(args),
        Held::Feed(args) => crate::feed::run(*args),
    }
}

/// What a [`Summary`] says of trading live only.
#[derive(Serialize)]
pub(crate) struct Traded {
    pub(crate) seed: u64,
    /// What the exchange was asked to do wrong, with how often.
    pub(crate) misbehaved: Vec<(String, u64)>,
    /// From the first process to the last order.
    pub(crate) traded_seconds: f64,
    #[serde(flatten)]
    pub(crate) judged: judge::Judged,
}

/// Everybody who plays.
struct Cast<'a> {
    crew: Crew<'a>,
    exchange: Id,
    address: SocketAddr,
    /// Of the director.
    client: Exchange,
    feed: Id,
    taker: Id,
    maker: Id,
    router: Id,
    refinery: Id,
    witness: Witness,
    scenes: Vec<String>,
    killed: Vec<Killed>,
    /// Records that the refinery had taken in when it was killed, where that is known.
    refined_before: Option<u64>,
    misbehaved: Vec<(String, u64)>,
}

pub(super) fn run(stage: &Stage<'_>) -> Result<Summary, Failure> {
    let seed = stage.args.seed.unwrap_or_else(|| System.random() as u64 >> 32);
    trade(stage, seed).map_err(|failure| match failure {
        // Whoever wants to see it again needs that.
        Failure::Problem(text) if !text.is_empty() => Failure::Problem(format!("{text} (seed {seed})")),
        other => other,
    })
}

fn trade(stage: &Stage<'_>, seed: u64) -> Result<Summary, Failure> {
    let args = stage.args;
    let seconds = args.seconds.unwrap_or(if args.chaos { SECONDS_CHAOS } else { SECONDS });
    let place = stage.place(VENUE);
    let mut cast = Cast::gather(stage, &place, seed)?;
    let opened = Instant::now();
    let until = opened + Duration::from_secs(seconds.into());
    let mut random = args.chaos.then(|| Random::new(seed));
    if let Some(random) = &mut random {
        chaos::play(&mut cast, random, until)?;
    } else {
        cast.play(until)?;
    }
    cast.calm("the end")?;
    let traded_seconds = opened.elapsed().as_secs_f64();
    cast.close(stage, &place, seed, random, traded_seconds)
}

impl<'a> Cast<'a> {
    /// Starts everybody, in an order in which nobody finds what it needs.
    fn gather(stage: &Stage<'a>, place: &'a Place, seed: u64) -> Result<Self, Failure> {
        let mut crew = Crew::new(place, stage.screen, stage.stop);
        let symbols = SYMBOLS.map(|(name, price)| format!("{name}={price}")).join(",");
        let mut exchange = ["--seed", &seed.to_string(), "--symbols", &symbols].map(str::to_owned).to_vec();
        if let Some(listen) = stage.args.listen {
            exchange.extend(["--listen".to_owned(), listen.to_string()]);
        }
        let exchange = crew.hold("exchange", &exchange)?;
        crew.wait_until(exchange, |crew| crew.listening(exchange).is_some())?;
        let listening = crew.listening(exchange).unwrap_or_default();
        let address: SocketAddr = listening.parse()?;

        let taker = crew.start("trader", &["--reader", "taker", "--takes"].map(|word| word.to_owned()))?;
        let hold: &[&str] = if stage.args.chaos { &[] } else { &["--hold-at", HOLD_AT] };
        let refinery = crew.start("refinery", hold)?;
        let mut router: Vec<OsString> = vec!["--exchange".into(), listening.clone().into()];
        for sabotage in stage.args.sabotage.iter().filter_map(Sabotage::to_possible_value) {
            router.extend(["--sabotage".into(), sabotage.get_name().into()]);
        }
        let router = crew.start("router", &router)?;
        let feed = crew.hold("feed", &feed_arguments(place, &listening))?;
        let maker = crew.start("trader", &["--reader", "maker"])?;
        let witness = Witness::start(address, stage.scratch, NOTE_EVERY, stage.stop.clone())?;
        Ok(Cast {
            crew,
            exchange,
            address,
            client: Exchange::until(address, stage.stop.clone()),
            feed,
            taker,
            maker,
            router,
            refinery,
            witness,
            scenes: Vec::new(),
            killed: Vec::new(),
            refined_before: None,
            misbehaved: Vec::new(),
        })
    }

    /// Lets something happen to each of them.
    fn play(&mut self, until: Instant) -> Outcome {
        self.scene("calm");
        self.whole()?;
        self.noted(3)?;

        self.scene("messages sent twice");
        self.misbehave("what=duplicate&channel=depth&times=3", 3)?;
        self.noted(2)?;

        self.scene("a gap");
        let from = self.crew.events(self.feed).len();
        self.misbehave("what=skip&channel=depth&times=1", 1)?;
        self.told(from, "gap")?;
        self.whole()?;
        self.taken_in()?;

        self.scene("a dropped connection");
        let from = self.crew.events(self.feed).len();
        self.misbehave("what=drop&how=reset&times=1", 1)?;
        self.told(from, "disconnected")?;
        self.told(from, "connected")?;
        // It has missed something only once it is told what comes next: a second in which it is told a lot.
        self.whole()?;
        self.whole()?;
        self.taken_in()?;

        self.scene("the feed killed");
        self.kill(self.feed, "while it followed the exchange")?;
        self.crew.again(self.feed)?;
        self.whole()?;
        self.noted(2)?;

        self.scene("a strategy killed");
        self.kill(self.taker, "while it traded")?;
        self.crew.again(self.taker)?;
        self.works(self.taker)?;
        self.noted(2)?;

        self.scene("the router killed");
        // The exchange has the order, and the router dies before anybody hears of it.
        self.misbehave("what=close_at&step=answer&times=1", 1)?;
        self.kill(self.router, "with orders on their way")?;
        self.noted(2)?;
        self.crew.again(self.router)?;
        self.works(self.router)?;

        self.scene("the refinery killed");
        let refinery = self.refinery;
        self.crew.wait_until(refinery, |crew| crew.holding(refinery).is_some())?;
        let at = self.crew.holding(refinery);
        self.refined_before = at;
        self.kill(refinery, &format!("while it refined, {} records in", at.unwrap_or_default()))?;
        self.refinery = self.crew.start::<&str>("refinery", &[])?;
        self.noted(2)?;

        self.scene("calm again");
        while Instant::now() < until {
            self.pause()?;
        }
        self.noted(2)
    }

    /// Names what happens from now on; of each scene the judge wants a book of every symbol.
    fn scene(&mut self, name: &str) {
        self.witness.scene(name);
        self.scenes.push(name.to_owned());
    }

    fn kill(&mut self, who: Id, phase: &str) -> Outcome {
        let name = self.crew.name(who).to_owned();
        let pid = self.crew.kill(who)?;
        self.killed.push(Killed { pid, phase: format!("{name}: {phase}") });
        Ok(())
    }

    /// Has the exchange misbehave, and waits until it has so often; 0 = without waiting.
    fn misbehave(&mut self, fault: &str, times: u64) -> Outcome {
        let name = fault.split('&').next().and_then(|what| what.strip_prefix("what=")).unwrap_or_default();
        match self.misbehaved.iter_mut().find(|(what, _)| what == name) {
            Some((_, count)) => *count += 1,
            None => self.misbehaved.push((name.to_owned(), 1)),
        }
        let armed = self.client.must("POST", &format!("/local/misbehave?{fault}"))?["armed"].clone();
        if times == 0 {
            return Ok(());
        }
        let began = Instant::now();
        loop {
            let faults = self.client.get("/local/misbehave")?;
            let mut faults = faults.as_array().into_iter().flatten();
            if faults.any(|fault| fault["id"] == armed && fault["fired"].as_u64() >= Some(times)) {
                return Ok(());
            }
            if began.elapsed() > WHOLE_MAX {
                return Err(Failure::Problem(format!("the exchange had no occasion for {fault}")));
            }
            self.pause()?;
        }
    }

    /// Waits until the feed tells of an event.
    fn told(&mut self, from: usize, event: &str) -> Outcome {
        self.until(&format!("the feed tells of no {event}"), |cast| {
            cast.crew.events(cast.feed).iter().skip(from).any(|told| told["event"] == event)
        })
    }

    /// Waits until the feed says that it has all books, in words later than this call.
    fn whole(&mut self) -> Outcome {
        let from = self.crew.events(self.feed).len();
        let whole = |told: &Value| {
            let count = |name: &str| told["status"][name].as_u64();
            count("books") == Some(SYMBOLS.len() as u64) && count("books_whole") == count("books")
        };
        self.until("the feed has no whole books", |cast| cast.crew.events(cast.feed).iter().skip(from).any(whole))
    }

    /// Waits until somebody who was started makes progress.
    fn works(&mut self, who: Id) -> Outcome {
        let name = self.crew.name(who).to_owned();
        self.until(&format!("{name} does nothing"), |cast| cast.crew.progress(who) > 0)
    }

    /// Waits until so many moments were noted.
    fn noted(&mut self, moments: u64) -> Outcome {
        let count = self.witness.count() + moments;
        self.until("the exchange's books cannot be noted", |cast| cast.witness.count() >= count)
    }

    /// Waits until moments were noted and the feed has had time to come by them, before it loses what is on the way to it.
    fn taken_in(&mut self) -> Outcome {
        self.noted(2)?;
        self.whole()
    }

    fn until(&mut self, otherwise: &str, happened: impl Fn(&Self) -> bool) -> Outcome {
        let began = Instant::now();
        while !happened(self) {
            if began.elapsed() > WHOLE_MAX {
                return Err(Failure::Problem(format!("in {} s {otherwise}", WHOLE_MAX.as_secs())));
            }
            self.pause()?;
        }
        Ok(())
    }

    /// A moment in which it is looked whether anybody failed.
    fn pause(&mut self) -> Outcome {
        self.witness.look()?;
        self.crew.look()?;
        std::thread::sleep(Duration::from_millis(10));
        Ok(())
    }

    /// Ends all misbehaviour and waits until nothing is behind.
    fn calm(&mut self, scene: &str) -> Outcome {
        self.client.must("DELETE", "/local/misbehave")?;
        self.whole()?;
        self.scene(scene);
        self.noted(2)
    }

    /// Has a strategy register that finds no quote to trade on, and kills it when nobody looks at the bus any more.
    fn leave_stale(&mut self, place: &Place) -> Outcome {
        let layout = Layout::of(&place.root());
        let entry = Entry::strategy("maker")?;
        self.crew.again(self.maker)?;
        self.until("the strategy is not registered", |_| look(&System, &layout, &entry).ready().is_some())?;
        self.crew.kill(self.maker).map(drop)
    }

    /// Ends everybody in order, has the archive made and judged, and says how it was.
    fn close(
        mut self,
        stage: &Stage<'_>,
        place: &Place,
        seed: u64,
        random: Option<Random>,
        traded_seconds: f64,
    ) -> Result<Summary, Failure> {
        let args = stage.args;
        for trader in [self.taker, self.maker] {
            self.crew.tell(trader, "finish");
        }
        let mut strategies = vec![self.crew.finish::<strategy::Told>(self.taker)?];
        strategies.push(self.crew.finish(self.maker)?);
        self.crew.tell(self.router, "finish");
        let _: router::Told = self.crew.finish(self.router)?;
        // The crowd goes home; the last book is noted, and comes by the feed.
        self.client.must("POST", "/local/pause")?;
        self.witness.finish()?;
        std::thread::sleep(Duration::from_millis(500));
        self.crew.end(self.feed)?;
        if args.sabotages(Sabotage::LeaveStale) {
            self.leave_stale(place)?;
        }
        self.crew.tell(self.refinery, "finish");
        let refinery: refinery::Told = self.crew.finish(self.refinery)?;
        let tier = self.crew.start::<&str>("tier", &[])?;
        if let Some(mut random) = random {
            chaos::strike(&mut self, tier, &mut random)?;
        }
        let tier: tier::Told = self.crew.finish(tier)?;
        if args.sabotages(Sabotage::FlipByte) {
            flip_byte(&place.root().cold)?;
        }
        if args.sabotages(Sabotage::WrongBook) {
            witness::spoil(stage.scratch)?;
        }
        let mut judge = vec!["--exchange".to_owned(), self.address.to_string()];
        judge.extend(self.scenes.iter().flat_map(|scene| ["--scene".to_owned(), scene.clone()]));
        let judge = self.crew.start("judge", &judge)?;
        let told: judge::Told = self.crew.finish(judge)?;
        self.crew.end(self.exchange)?;

        let problems = told.problems;
        let appended = told.events;
        Ok(Summary {
            ok: problems.is_empty(),
            events: told.events,
            replay: told.replay,
            books: told.books,
            verified: told.verified,
            latency_ns: strategies[0].latency_ns,
            bytes: check::Bytes { raw: told.bytes, warm: tier.warm_bytes, cold: tier.cold_bytes },
            import_events_per_s: told.events as f64 / traded_seconds,
            import_mb_per_s: told.bytes as f64 / 1e6 / traded_seconds,
            refine_events_per_s: told.refined_again.events_per_s,
            refined_again: told.refined_again,
            refined_live: refinery.events,
            refined_twice: self.refined_before.map(|before| (before + refinery.events).saturating_sub(appended)),
            seconds: stage.began.elapsed().as_secs_f64(),
            killed: self.killed,
            wait: strategies[0].wait.clone(),
            strategies: strategies.into_iter().map(Into::into).collect(),
            input: format!("a local exchange, seed {seed}"),
            hot: stage.hot.told.clone(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            problems,
            notes: Vec::new(),
            live: Some(Traded { seed, misbehaved: self.misbehaved, traded_seconds, judged: told.judged }),
        })
    }
}

fn feed_arguments(place: &Place, listening: &str) -> Vec<OsString> {
    let symbols = SYMBOLS.map(|(name, _)| name);
    let mut arguments: Vec<OsString> = vec!["--root".into(), place.root.clone().into()];
    if let Some(hot) = &place.tiers.hot {
        arguments.extend(["--hot".into(), hot.clone().into()]);
    }
    for (flag, value) in [
        ("--venue", place.venue.name().to_owned()),
        ("--symbols", symbols.join(",")),
        ("--url", format!("ws://{listening}")),
        ("--rest-url", format!("http://{listening}")),
        // Small, so that the queue rolls and fits a small /dev/shm.
        ("--segment-mib", "4".to_owned()),
        ("--status-every", "1".to_owned()),
    ] {
        arguments.extend([flag.into(), value.into()]);
    }
    arguments.push("--json".into());
    arguments
}
