//! The demo on a recording: the whole way of a record, compared with the recording at its end.
//!
//! ```text
//! feed ──▶ raw queue ──▶ strategy "fast", strategy "slow"
//!             │
//!             └─▶ refinery (killed once, started again) ──▶ tier manager ──▶ check
//! ```

use super::{
    Killed, Latency, Place, Sabotage, Stage, Summary, check, feed, flip_byte, refinery, strategy, tier, worker::Crew,
};
use crate::{ingest::Input, run::Failure};
use chronicle::feed::Venue;
use std::{
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

/// How long a recording is played, unless it is said.
const SECONDS: u32 = 5;

/// The recording, for the parts that read it.
#[derive(clap::Args, Clone)]
pub(crate) struct Played {
    #[arg(long)]
    pub(crate) input: PathBuf,
    /// The name under which it is reported.
    #[arg(long)]
    pub(crate) name: String,
}

/// Puts the recording where all parts find it, and plays it.
pub(super) fn run(stage: &Stage<'_>, path: &Path, venue: Venue) -> Result<Summary, Failure> {
    let copy = stage.scratch.join("input");
    // A pipe may say nothing for ever, and no signal ends a read: it is waited for here, where one is heard.
    let fetching = {
        let (path, copy) = (path.to_owned(), copy.clone());
        std::thread::spawn(move || fetch(&path, &copy))
    };
    while !fetching.is_finished() {
        if stage.stop.load(Ordering::Relaxed) {
            return Err(Failure::told());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let fetched = fetching.join().map_err(|_| Failure::Problem("the recording was not read to its end".to_owned()))?;
    let (name, lines) = fetched?;
    let place = stage.place(venue);
    play(stage, &place, &Played { input: copy, name }, lines)
}

/// Copies the recording, because standard input is gone once read, and two processes read it. Gives its name and how many
/// lines it has.
fn fetch(path: &Path, copy: &Path) -> Result<(String, u64), Failure> {
    let mut input = Input::open(path)?;
    let mut from = input.reader()?;
    std::fs::File::create(copy)
        .and_then(|mut to| std::io::copy(&mut from, &mut to))
        .map_err(|error| Failure::Problem(format!("{}: the recording cannot be copied: {error}", copy.display())))?;
    drop(from);
    Ok((input.name, Input::open(copy)?.line_count()?))
}

/// What was hit.
struct Kill {
    pid: u32,
    /// Records that it had taken in, in the middle of its work; `None`: it had all and waited for more.
    at: Option<u64>,
    feed_has_ended: bool,
}

impl Kill {
    fn told(&self, appended: u64) -> Killed {
        let phase = match self.at {
            Some(at) => {
                let feed = if self.feed_has_ended { "the feed had ended" } else { "the feed was playing" };
                format!("while it refined, {at} of {appended} records in; {feed}")
            }
            None => format!("while it waited for more, all {appended} records in"),
        };
        Killed { pid: self.pid, phase }
    }
}

impl Played {
    fn arguments(&self) -> Vec<OsString> {
        vec!["--input".into(), self.input.clone().into(), "--name".into(), self.name.clone().into()]
    }
}

fn play(stage: &Stage<'_>, place: &Place, played: &Played, lines: u64) -> Result<Summary, Failure> {
    let Stage { args, hot, .. } = *stage;
    let mut crew = Crew::new(place, stage.screen, stage.stop);
    let seconds = args.seconds.unwrap_or(SECONDS).to_string();
    let mut feed_arguments = played.arguments();
    feed_arguments.extend(["--over", &seconds, "--await-reader", "fast", "--await-reader", "slow"].map(OsString::from));
    if args.sabotages(Sabotage::DropRecord) {
        feed_arguments.push("--drop-record".into());
    }

    let fast = crew.start("strategy", &["--reader", "fast"])?;
    let slow = crew.start("strategy", &["--reader", "slow", "--slow"])?;
    let mut kills = Vec::new();
    // Once; and once more, where the tests want that to be noticed.
    let twice = args.sabotages(Sabotage::KillTwice);
    let mut hold_at = (lines / 2).max(1);
    let mut refinery = crew.start("refinery", &["--hold-at", &hold_at.to_string()])?;
    let feed = crew.start("feed", &feed_arguments)?;
    loop {
        // A recording may have fewer records than lines; then it never comes so far.
        let has_all = |crew: &Crew<'_>| {
            let feed = crew.told::<feed::Told>(feed);
            feed.is_some_and(|feed| feed.appended < hold_at && crew.progress(refinery) >= feed.appended)
        };
        crew.wait_until(refinery, |crew| crew.holding(refinery).is_some() || has_all(crew))?;
        kills.push(Kill {
            at: crew.holding(refinery),
            feed_has_ended: crew.told::<feed::Told>(feed).is_some(),
            pid: crew.kill(refinery)?,
        });
        if !twice || kills.len() == 2 {
            break;
        }
        hold_at = (lines / 4).max(1);
        refinery = crew.start("refinery", &["--hold-at", &hold_at.to_string()])?;
    }
    let refinery = crew.start::<&str>("refinery", &[])?;

    let feed: feed::Told = crew.finish(feed)?;
    if feed.events == 0 {
        return Err(Failure::Problem(format!("{}: no whole message of {} in it", played.name, place.venue.name())));
    }
    let fast: strategy::Told = crew.finish(fast)?;
    let slow: strategy::Told = crew.finish(slow)?;
    crew.tell(refinery, "finish");
    let refinery: refinery::Told = crew.finish(refinery)?;
    let tier = crew.start::<&str>("tier", &[])?;
    let tier: tier::Told = crew.finish(tier)?;
    if args.sabotages(Sabotage::FlipByte) {
        flip_byte(&place.root().cold)?;
    }
    let check = crew.start("check", &played.arguments())?;
    let check: check::Told = crew.finish(check)?;

    let mut problems = check.problems.clone();
    if kills.len() != 1 {
        problems.push(format!("the refinery was killed {} times, once was meant", kills.len()));
    }
    for told in [&fast, &slow] {
        if told.records != feed.appended {
            problems.push(format!("strategy {} read {} of {} records", told.reader, told.records, feed.appended));
        }
    }
    let latency_ns = latency(place, "fast")?;
    // All that went in once is in the archive once; what was taken in more often had not been in a checkpoint.
    let before: Option<u64> = kills.iter().map(|kill| kill.at).sum();
    let refined_twice = before.map(|before| (before + refinery.events).saturating_sub(feed.appended));
    Ok(Summary {
        ok: problems.is_empty(),
        events: feed.events,
        replay: check.replay,
        books: check.books,
        verified: check.verified,
        latency_ns,
        bytes: check::Bytes { raw: feed.bytes, warm: tier.warm_bytes, cold: tier.cold_bytes },
        import_events_per_s: feed.events_per_s,
        import_mb_per_s: feed.mb_per_s,
        refine_events_per_s: check.refined_again.events_per_s,
        refined_again: check.refined_again,
        refined_live: refinery.events,
        seconds: stage.began.elapsed().as_secs_f64(),
        killed: kills.iter().map(|kill| kill.told(feed.appended)).collect(),
        refined_twice,
        wait: fast.wait.clone(),
        strategies: vec![fast, slow],
        input: played.name.clone(),
        hot: hot.told.clone(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        problems,
        notes: feed.notes,
        live: None,
    })
}

/// Joins the feed's times with a strategy's by seq.
fn latency(place: &Place, reader: &str) -> Result<Latency, Failure> {
    let sent = times(&place.scratch.join("feed.times"))?;
    let seen = times(&place.scratch.join(format!("{reader}.times")))?;
    let mut histogram = Latency::histogram()?;
    let mut sent = sent.into_iter().peekable();
    for (seq, at) in seen {
        while sent.next_if(|(other, _)| *other < seq).is_some() {}
        if let Some((other, from)) = sent.peek()
            && *other == seq
        {
            histogram.saturating_record(at.saturating_sub(*from).max(1));
        }
    }
    Ok(Latency::of(&histogram))
}

/// (seq, ns) pairs that a part wrote with `write_times`.
fn times(path: &Path) -> Result<Vec<(u64, u64)>, Failure> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.read_to_end(&mut bytes)?;
    let (pairs, _) = bytes.as_chunks::<16>();
    Ok(pairs
        .iter()
        .map(|pair| {
            let (seq, at) = pair.split_at(8);
            let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            (word(seq), word(at))
        })
        .collect())
}
