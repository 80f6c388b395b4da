//! The live demo's judge: a process of its own that has the files on disk and what the exchange says of itself.
//!
//! | It compares | with |
//! |---|---|
//! | the refined book at an update id | the exchange's own book at that id, whole |
//! | every record in the archive | the raw stream, record by record |
//! | the partitions | what the raw archive gives when it is refined once more |
//! | every order in the strategies' queues | the exchange's list of orders, and back: each is there once, with its terms |
//! | the replies in the strategies' queues | one answer and one end for each order, and the exchange's fills, each once |
//! | what lies on the bus | nothing: every registration was left, or removed behind who died |
//!
//! It shares no state with the processes that it judges, and believes none of them.

use super::{
    super::{
        Latency, Place,
        check::{self, Again, Archive, Books, Replay, Verified},
        worker::{Ears, Mouth},
    },
    exchange::Exchange,
    ledger::{self, Ledger},
    witness::{self, Note},
};
use crate::run::{Failure, Outcome};
use chronicle::{
    System,
    bus::{
        Entry, Kind, Layout, State, look,
        orders::{Life, Order, OrderId, Reply, ReplyKind, Side},
    },
    protocol::{Record, Scale, SnapshotSource},
    storage::{
        raw::{RawEvent, RawReader},
        reader::ArchiveReader,
        root::{Name, PartitionId, Root, Stream},
        verify,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    #[arg(long)]
    exchange: SocketAddr,
    /// Scenes of which at least one book of every symbol must be compared.
    #[arg(long)]
    scene: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    /// Records in the raw stream, and their bytes.
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) refined_again: Again,
    pub(crate) replay: String,
    pub(crate) books: Books,
    pub(crate) verified: Verified,
    pub(crate) judged: Judged,
    pub(crate) problems: Vec<String>,
}

/// What there is to judge of trading live only.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Judged {
    /// Moments of a symbol that were noted, of which some lie in a gap of the feed's.
    pub(crate) noted: u64,
    /// Scenes with a book of every symbol that was compared.
    pub(crate) scenes: u64,
    /// Gaps in the archive.
    pub(crate) gaps: u64,
    pub(crate) orders: Orders,
    /// Entries on the bus.
    pub(crate) registrations: u64,
    /// Entries that somebody left something in.
    pub(crate) stale: u64,
    /// From the receipt of a quote to the order's commit.
    pub(crate) tick_to_order_ns: Latency,
    /// From there to the router's answer, the exchange's behind it.
    pub(crate) order_to_answer_ns: Latency,
    /// From the receipt of a quote to the fill's reply, of orders that take at once.
    pub(crate) tick_to_fill_ns: Latency,
}

/// What became of the orders.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Orders {
    /// In the strategies' queues.
    pub(crate) sent: u64,
    pub(crate) cancels: u64,
    /// At the exchange.
    pub(crate) at_exchange: u64,
    /// Sent, not refused, and not at the exchange, or there with other terms.
    pub(crate) lost: u64,
    /// At the exchange, and sent by nobody.
    pub(crate) doubled: u64,
    /// With one answer, cancels among them.
    pub(crate) answered_once: u64,
    /// With one end, and all of the exchange's fills told once.
    pub(crate) ended_once: u64,
    pub(crate) fills: u64,
}

pub(crate) fn run(args: Args) -> Outcome {
    let _ears = Ears::open();
    let mouth = Mouth::open();
    let (place, root) = (&args.place, args.place.root());
    let mut problems = Vec::new();
    let mut judged = Judged::default();

    let report = verify::verify(&System, &place.root)?;
    problems.extend(report.problems.iter().take(5).map(|problem| format!("verify: {problem}")));
    let mut verified = Verified { files: report.files, damaged: report.problems.len() as u64, ..Verified::default() };

    let raw = raw(&root, place.venue.name())?;
    let replay = match Archive::read(&System, &root, place.venue.name(), &mouth) {
        Ok(archive) => {
            (verified.snapshots, verified.snapshots_equal) = (archive.snapshots, archive.snapshots_equal);
            difference(raw.archive, archive)
        }
        Err(Failure::Problem(text) | Failure::Usage(text)) => format!("unreadable: {text}"),
    };
    if verified.snapshots != verified.snapshots_equal {
        let differ = verified.snapshots - verified.snapshots_equal;
        problems.push(format!("{differ} of {} minute snapshots differ from the replayed book", verified.snapshots));
    }
    if replay != "identical" {
        problems.push(format!("replay: {replay}"));
    }
    let books = match books(&root, place.venue.name(), witness::notes(&place.scratch)?, &args.scene) {
        Ok(compared) => {
            (judged.noted, judged.scenes, judged.gaps) = (compared.noted, compared.scenes, compared.gaps);
            problems.extend(compared.problems);
            compared.books
        }
        Err(Failure::Problem(text) | Failure::Usage(text)) => {
            problems.push(format!("books: {text}"));
            Books::default()
        }
    };
    let refined_again = match check::refine_again(&System, &root, place) {
        Ok(again) => again,
        Err(Failure::Problem(text) | Failure::Usage(text)) => {
            problems.push(format!("the raw archive cannot be refined again: {text}"));
            Again::default()
        }
    };
    if refined_again.same != refined_again.partitions {
        let Again { same, partitions, .. } = refined_again;
        problems.push(format!("refined again, {same} of {partitions} partitions have the same bytes"));
    }

    let layout = Layout::of(&root);
    orders(&layout, &mut Exchange::new(args.exchange), &mut judged, &mut problems)?;
    for entry in entries(&layout, place.venue.name())? {
        judged.registrations += 1;
        let state = look(&System, &layout, &entry);
        if !matches!(state, State::Gone | State::Absent) {
            judged.stale += 1;
            problems.push(format!("bus: {} is {state}, and nobody runs any more", layout.dir(&entry).display()));
        }
    }
    mouth.tell(Told { events: raw.events, bytes: raw.bytes, refined_again, replay, books, verified, judged, problems });
    Ok(())
}

/// The raw stream, in the words of the archive.
struct Raw {
    archive: Archive,
    events: u64,
    bytes: u64,
}

fn raw(root: &Root, venue: &str) -> Result<Raw, Failure> {
    let mut raw = Raw { archive: Archive::default(), events: 0, bytes: 0 };
    let mut reader = RawReader::open(&System, root, &Name::new(venue)?, None)?;
    let mut payload = Vec::new();
    while let Some(event) = reader.next()? {
        match event {
            RawEvent::Frame(found) => {
                payload.resize(found.frame.payload.len(), 0);
                found.frame.payload.copy_to(&mut payload);
                raw.archive.take(&Record::parse(found.frame.type_id, &payload)?);
                raw.events += 1;
                raw.bytes += payload.len() as u64;
            }
            RawEvent::Lost { from, to, .. } => {
                return Err(Failure::Problem(format!("the raw stream has lost frames {from} to {to}")));
            }
        }
    }
    raw.archive.sort();
    Ok(raw)
}

/// What the refined archive has other than the raw stream, if anything.
fn difference(raw: Archive, mut refined: Archive) -> String {
    refined.sort();
    for (kind, records) in &raw.records {
        let found = refined.records.remove(kind).unwrap_or_default();
        let differs = records.iter().zip(&found).position(|(raw, refined)| raw != refined);
        if differs.is_some() || records.len() != found.len() {
            let (raw, refined) = (records.len(), found.len());
            let at = differs.unwrap_or(raw.min(refined)) + 1;
            return format!("{kind} number {at} of the raw stream's {raw} differs from the archive's {refined}");
        }
    }
    if let Some((kind, found)) = refined.records.iter().find(|(_, found)| !found.is_empty()) {
        return format!("{} {kind} records that the raw stream has not", found.len());
    }
    if raw.opaque != refined.opaque {
        return "messages kept verbatim differ".to_owned();
    }
    "identical".to_owned()
}

struct Compared {
    books: Books,
    noted: u64,
    scenes: u64,
    gaps: u64,
    problems: Vec<String>,
}

/// Replays every symbol's book and holds it against what the exchange had at the same update.
fn books(root: &Root, venue: &str, notes: Vec<Note>, scenes: &[String]) -> Result<Compared, Failure> {
    let mut compared = Compared { books: Books::default(), noted: 0, scenes: 0, gaps: 0, problems: Vec::new() };
    let symbols: BTreeSet<String> = notes.iter().map(|note| note.symbol.clone()).collect();
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut by_id: HashMap<(String, u64), Note> = HashMap::new();
    let mut wanted: BTreeMap<(String, u64), Vec<String>> = BTreeMap::new();
    for note in notes {
        compared.noted += 1;
        let key = (note.symbol.clone(), note.last_update_id);
        wanted.entry(key.clone()).or_default().push(note.scene.clone());
        by_id.insert(key, note);
    }
    let archive = ArchiveReader::open(&System, root)?;
    let venue = Name::new(venue)?;
    let mut payload = Vec::new();
    for symbol in archive.symbols(&venue)? {
        let mut book = Replay::default();
        for date in archive.dates(&venue, &symbol)? {
            let id = PartitionId::new(venue.clone(), symbol.clone(), date, Stream::Book);
            let Some(mut partition) = archive.partition(&id)? else { continue };
            while let Some(frame) = partition.next()? {
                payload.resize(frame.payload.len(), 0);
                frame.payload.copy_to(&mut payload);
                let record = Record::parse(frame.type_id, &payload)?;
                let applied = frame.flags & check::NOT_APPLIED == 0;
                let (symbol, id) = match &record {
                    Record::BookDelta(delta) if applied => {
                        book.apply(delta.head.price, delta.head.qty, delta.bids, delta.asks);
                        (delta.symbol, delta.last_id)
                    }
                    Record::BookSnapshot(snapshot) if applied && snapshot.source == SnapshotSource::Venue => {
                        book.clear();
                        book.apply(snapshot.head.price, snapshot.head.qty, snapshot.bids, snapshot.asks);
                        (snapshot.symbol, snapshot.last_id)
                    }
                    Record::Gap(_) => {
                        compared.gaps += 1;
                        continue;
                    }
                    _ => continue,
                };
                let Some(note) = by_id.remove(&(symbol.to_owned(), id)) else { continue };
                compared.books.checked += 1;
                let differs = book.difference(&note.bids, &note.asks);
                compared.books.equal += u64::from(differs.is_none());
                if let Some(differs) = differs
                    && compared.problems.len() < 5
                {
                    compared.problems.push(format!("books: {symbol} at {id}, {}: {differs}", note.scene));
                }
                for scene in wanted.remove(&(symbol.to_owned(), id)).unwrap_or_default() {
                    seen.insert((scene, symbol.to_owned()));
                }
            }
        }
    }
    for scene in scenes {
        let missing: Vec<&str> = symbols
            .iter()
            .filter(|symbol| !seen.contains(&(scene.clone(), (*symbol).clone())))
            .map(String::as_str)
            .collect();
        compared.scenes += u64::from(missing.is_empty());
        if !missing.is_empty() {
            compared.problems.push(format!("books: {scene}: no book of {} could be compared", missing.join(", ")));
        }
    }
    if compared.books.checked == 0 {
        compared.problems.push("books: none could be compared with the exchange's".to_owned());
    }
    Ok(compared)
}

/// All that was ever registered on the bus, by its directories.
fn entries(layout: &Layout, venue: &str) -> Result<Vec<Entry>, Failure> {
    let mut entries = vec![Entry::raw(venue)?];
    for strategy in strategies(layout)? {
        entries.push(Entry::strategy(strategy.as_str())?);
    }
    Ok(entries)
}

fn strategies(layout: &Layout) -> Result<Vec<Name>, Failure> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(layout.kind_dir(Kind::Strategy))? {
        names.push(Name::new(&entry?.file_name().to_string_lossy())?);
    }
    names.sort();
    Ok(names)
}

/// Holds the strategies' queues and the exchange's list of orders against each other.
fn orders(layout: &Layout, exchange: &mut Exchange, judged: &mut Judged, problems: &mut Vec<String>) -> Outcome {
    let mut theirs = orders_at(exchange)?;
    judged.orders.at_exchange = theirs.len() as u64;
    let mut times = [Latency::histogram()?, Latency::histogram()?, Latency::histogram()?];
    let mut complain = Complaints::default();
    for strategy in strategies(layout)? {
        let ledger = Ledger::read(layout, &strategy)?;
        let mut replies: HashMap<OrderId, Vec<(u64, Reply)>> = HashMap::new();
        for at in &ledger.replies {
            replies.entry(at.record.id()).or_default().push((at.time_ns, at.record));
        }
        for at in &ledger.orders {
            let (order, id) = (&at.record, at.record.id());
            let name = ledger::client_id(strategy.as_str(), id);
            let replies = replies.remove(&id).unwrap_or_default();
            let is_answer =
                |reply: &Reply| matches!(reply.kind(), Some(ReplyKind::Acked | ReplyKind::Rejected | ReplyKind::Known));
            let answers: Vec<_> = replies.iter().filter(|(_, reply)| is_answer(reply)).collect();
            if answers.len() == 1 {
                judged.orders.answered_once += 1;
            } else {
                complain.add(format!("{name} was answered {} times", answers.len()));
            }
            if let Some((answered_ns, _)) = answers.first() {
                times[1].saturating_record(answered_ns.saturating_sub(at.time_ns).max(1));
            }
            if order.side().is_none() {
                judged.orders.cancels += 1;
                continue;
            }
            judged.orders.sent += 1;
            times[0].saturating_record(at.time_ns.saturating_sub(order.cause_ns.get()).max(1));
            if order.life() == Some(Life::Immediate) {
                for (time_ns, _) in replies.iter().filter(|(_, reply)| reply.kind() == Some(ReplyKind::Filled)) {
                    times[2].saturating_record(time_ns.saturating_sub(order.cause_ns.get()).max(1));
                }
            }
            let there = theirs.remove(&name);
            let refused = answers.iter().any(|(_, reply)| reply.kind() == Some(ReplyKind::Rejected));
            match &there {
                None if refused => {}
                None => {
                    judged.orders.lost += 1;
                    complain.add(format!("{name} is not at the exchange"));
                }
                Some(_) if refused => complain.add(format!("{name} is at the exchange, and was told refused")),
                Some(there) => {
                    if let Some(why) = other_terms(order, there) {
                        judged.orders.lost += 1;
                        complain.add(format!("{name} has another {why} at the exchange"));
                    }
                }
            }
            let ends = replies.iter().filter(|(_, reply)| reply.is_final()).count();
            match (ends, told_wrong(order, &replies, there.as_ref())) {
                (1, None) => judged.orders.ended_once += 1,
                (1, Some(why)) => complain.add(format!("{name}: {why}")),
                (ends, _) => complain.add(format!("{name} was told to have ended {ends} times")),
            }
            judged.orders.fills += replies.iter().filter(|(_, reply)| reply.fill_id.get() > 0).count() as u64;
        }
        for id in replies.keys() {
            complain.add(format!("{} was answered, and never sent", ledger::client_id(strategy.as_str(), *id)));
        }
    }
    judged.orders.doubled = theirs.len() as u64;
    for name in theirs.keys() {
        complain.add(format!("{name} is at the exchange, and no strategy sent it"));
    }
    if judged.orders.sent == 0 {
        complain.add("none was sent".to_owned());
    }
    problems.extend(complain.into_problems());
    [judged.tick_to_order_ns, judged.order_to_answer_ns, judged.tick_to_fill_ns] =
        times.map(|times| Latency::of(&times));
    Ok(())
}

/// The first few of many, and how many there were.
#[derive(Default)]
struct Complaints {
    first: Vec<String>,
    count: u64,
}

impl Complaints {
    fn add(&mut self, what: String) {
        self.count += 1;
        if self.first.len() < 5 {
            self.first.push(format!("orders: {what}"));
        }
    }

    fn into_problems(mut self) -> Vec<String> {
        let more = self.count - self.first.len() as u64;
        if more > 0 {
            self.first.push(format!("orders: and {more} more of the kind"));
        }
        self.first
    }
}

/// The exchange's list of orders, by their clients' names.
fn orders_at(exchange: &mut Exchange) -> Result<BTreeMap<String, Value>, Failure> {
    let mut all = BTreeMap::new();
    let mut after = 0;
    loop {
        let mut page = exchange.get(&format!("/local/orders?after={after}&limit=5000"))?;
        let count = page["count"].as_u64().unwrap_or_default();
        let Some(Value::Array(orders)) = page.get_mut("orders").map(Value::take) else { break };
        if orders.is_empty() {
            break;
        }
        for order in orders {
            after += 1;
            let name = order["clientOrderId"].as_str().unwrap_or_default().to_owned();
            if let Some(first) = all.insert(name.clone(), order) {
                // The exchange promises that a name is used once; if it breaks that, both are told of.
                all.insert(format!("{name} (once more, {})", first["orderId"]), first);
            }
        }
        if after >= count {
            break;
        }
    }
    Ok(all)
}

/// What of an order is not at the exchange as it was sent.
fn other_terms(order: &Order, there: &Value) -> Option<&'static str> {
    let same = |mantissa: i64, exp: i8, text: &Value| {
        let sent = Scale::fixed(exp.min(0).unsigned_abs()).decimal(mantissa).to_string();
        text.as_str().is_some_and(|text| check::scaled(text) == check::scaled(&sent))
    };
    let side = if order.side() == Some(Side::Sell) { "SELL" } else { "BUY" };
    let life = if order.life() == Some(Life::Immediate) { "IOC" } else { "GTC" };
    if there["symbol"] != order.symbol() {
        return Some("symbol");
    }
    if there["side"] != side {
        return Some("side");
    }
    if there["timeInForce"] != life {
        return Some("life");
    }
    if !same(order.price.get(), order.price_exp, &there["price"]) {
        return Some("price");
    }
    (!same(order.qty.get(), order.qty_exp, &there["origQty"])).then_some("quantity")
}

/// What the replies to an order say other than the exchange.
fn told_wrong(order: &Order, replies: &[(u64, Reply)], there: Option<&Value>) -> Option<String> {
    let there = there?;
    let mut told = BTreeMap::new();
    for (_, reply) in replies.iter().filter(|(_, reply)| reply.kind() == Some(ReplyKind::Filled)) {
        if told.insert(reply.fill_id.get(), reply.qty.get()).is_some() {
            return Some(format!("fill {} was told twice", reply.fill_id.get()));
        }
    }
    let fills = there["fills"].as_array().map_or(&[][..], Vec::as_slice);
    for fill in fills {
        let id = fill["tradeId"].as_u64().unwrap_or_default();
        let Some(qty) = told.remove(&id) else { return Some(format!("fill {id} was not told")) };
        let qty = Scale::fixed(order.qty_exp.min(0).unsigned_abs()).decimal(qty).to_string();
        if check::scaled(&qty) != check::scaled(fill["qty"].as_str().unwrap_or_default()) {
            return Some(format!("fill {id} was told with another quantity"));
        }
    }
    if let Some(id) = told.keys().next() {
        return Some(format!("fill {id} was told and is none of the exchange's"));
    }
    let end = replies.iter().map(|(_, reply)| reply).find(|reply| reply.is_final())?;
    let status = there["status"].as_str().unwrap_or_default();
    let is_so = match end.kind() {
        Some(ReplyKind::Filled) => status == "FILLED",
        Some(ReplyKind::Cancelled) => matches!(status, "CANCELED" | "EXPIRED"),
        _ => false,
    };
    (!is_so).then(|| format!("it was told to have ended otherwise than the exchange's {status}"))
}
