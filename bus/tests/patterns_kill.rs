//! Strategies and a router, real processes, killed again and again: each order is done once and answered once.
//!
//! The venue is a directory: an order is done by making the file of its id, which the system lets happen once. A router
//! does a *fresh* order without looking, and is caught in the act if it was not; any other it looks up first. What was
//! sent is what `orders_out` holds; what was answered, what `orders_in` holds. Each of the three says the same in the end.
//!
//! Strategies also send orders again that were sent before, and the seed of who is killed when is printed.
#![cfg(target_os = "linux")]

use chronicle_bus::{
    Layout, RouterEnd, StrategyEnd, Subscriber,
    ends::{FromStrategy, News, Past, RouterOptions, StrategyOptions, Taken},
    orders::{Order, OrderId, Reply, ReplyKind, Side},
    typed::Received,
};
use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use chronicle_storage::{
    queue::{ReadError, Refused, Start, SubscriberOptions},
    root::Name,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const ROLE: &str = "BUS_KILL_ROLE";
const DIR: &str = "BUS_KILL_DIR";
const STRATEGIES: [&str; 3] = ["one", "two", "three"];
/// Orders that a strategy sends in all its lives: fewer than would fill its queue, so that all are there in the end.
const ORDERS: u64 = 10_000;

fn start(role: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["a_child_does_its_job", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Not a test of its own: what a child does.
#[test]
fn a_child_does_its_job() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    match role.as_str() {
        "router" => route(&dir),
        strategy => trade(strategy, &dir),
    }
}

fn layout(dir: &Path) -> Layout {
    Layout::new(dir.join("hot"))
}

fn is_over(dir: &Path) -> bool {
    dir.join("over").exists() || !dir.exists()
}

fn trade(name: &str, dir: &Path) {
    let begun = Instant::now();
    // Its predecessor's locks go with its last descriptor, a moment after it died.
    let mut end = loop {
        match StrategyEnd::open(&Linux, &layout(dir), name, &StrategyOptions::default()) {
            Ok(end) => break end,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{name}: {error}"),
        }
    };
    // What it sent in all its lives, it reads where it stands.
    let mut sent = end.orders().queue().next_seq() - 1;
    let unanswered = end.unanswered().unwrap();
    let order = Order::limit("venue", "BTCUSDT", Side::Buy, (100, 0), (1, 0)).unwrap();
    // One of those that may or may not have come through: a retry must do no harm.
    let mut again = unanswered.last().copied();
    let mut heard = 0_u64;
    while !is_over(dir) {
        if sent < ORDERS {
            let result = match again.take() {
                Some(order) => end.send_again(Linux.now_ns(), &order),
                None => end.send(Linux.now_ns(), &order).map(|sent| {
                    if sent.id().seq.is_multiple_of(50) {
                        again = Some(sent);
                    }
                }),
            };
            match result {
                Ok(()) => sent += 1,
                Err(Refused::NotReady | Refused::QueueFull { .. }) => {}
                Err(refused) => panic!("{name}: {refused}"),
            }
        }
        loop {
            match end.next() {
                Ok(Some(Received::Message { .. })) => heard += 1,
                Ok(None) => break,
                Ok(Some(other)) => panic!("{name}: {other:?}"),
                Err(event) => panic!("{name}: {event}"),
            }
            if heard.is_multiple_of(7) {
                end.commit().unwrap();
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Does an order at the venue: its file is made, once.
fn execute(dir: &Path, strategy: &Name, id: OrderId) {
    let path = dir.join("venue").join(format!("{strategy}.{id}"));
    if let Err(error) = OpenOptions::new().write(true).create_new(true).open(&path) {
        // Told to the parent, who must not miss it.
        _ = fs::write(dir.join("caught"), format!("{strategy} {id} was called fresh: {error}"));
        panic!("{}: {error}", path.display());
    }
}

fn is_executed(dir: &Path, strategy: &Name, id: OrderId) -> bool {
    dir.join("venue").join(format!("{strategy}.{id}")).exists()
}

fn route(dir: &Path) {
    let mut router = RouterEnd::open(&Linux, &layout(dir), RouterOptions::default()).unwrap();
    let mut driven = Instant::now() - Duration::from_secs(1);
    while !is_over(dir) {
        if driven.elapsed() > Duration::from_millis(5) {
            driven = Instant::now();
            for news in router.drive() {
                match news {
                    News::Joined { number, .. } => finish(dir, &mut router, number),
                    // The one before it is still going.
                    News::Refused { .. } | News::Changed(_) | News::Released { .. } => {}
                }
            }
        }
        match router.next(Linux.now_ns()) {
            Some(FromStrategy::Order(taken)) => answer(dir, &mut router, &taken),
            Some(other) => panic!("{other:?}"),
            None => _ = router.wait(Duration::from_millis(1)),
        }
    }
}

fn answer(dir: &Path, router: &mut RouterEnd<Linux>, taken: &Taken) {
    let strategy = router.strategy(taken.from).unwrap().clone();
    let id = taken.order.id();
    if !taken.fresh && is_executed(dir, &strategy, id) {
        let (mut acked, mut filled) = (false, false);
        // Known to the venue; but was it told? What this host knows, it reads.
        router
            .history(taken.from, |past| {
                if let Past::Reply(reply) = past
                    && reply.id() == id
                {
                    acked |= reply.kind() == Some(ReplyKind::Acked);
                    filled |= reply.kind() == Some(ReplyKind::Filled);
                }
            })
            .unwrap();
        if acked {
            tell(router, taken, &Reply::known(&taken.order));
        } else {
            tell(router, taken, &Reply::acked(&taken.order, 1));
        }
        if !filled {
            tell(router, taken, &Reply::filled(&taken.order, 1, 1, 100, 1, 1));
        }
        return;
    }
    execute(dir, &strategy, id);
    tell(router, taken, &Reply::acked(&taken.order, 1));
    tell(router, taken, &Reply::filled(&taken.order, 1, 1, 100, 1, 1));
}

/// Fills that an earlier router did not come to tell of.
fn finish(dir: &Path, router: &mut RouterEnd<Linux>, number: u32) {
    let strategy = router.strategy(number).unwrap().clone();
    let (mut orders, mut acked, mut filled) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    router
        .history(number, |past| match past {
            Past::Order(taken) => _ = orders.entry(taken.order.id()).or_insert(taken),
            Past::Reply(reply) => match reply.kind() {
                Some(ReplyKind::Acked) => _ = acked.insert(reply.id()),
                Some(ReplyKind::Filled) => _ = filled.insert(reply.id()),
                _ => {}
            },
        })
        .unwrap();
    for id in acked.difference(&filled) {
        assert!(is_executed(dir, &strategy, *id));
        let taken = orders[id];
        tell(router, &taken, &Reply::filled(&taken.order, 1, 1, 100, 1, 1));
    }
}

fn tell(router: &mut RouterEnd<Linux>, taken: &Taken, reply: &Reply) {
    loop {
        match router.reply(taken, Linux.now_ns(), reply) {
            Ok(_) => return,
            Err(Refused::NotReady | Refused::QueueFull { .. }) => {
                router.maintain();
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(refused) => panic!("{refused}"),
        }
    }
}

/// All messages of a queue, from its oldest frame on.
fn all<M: chronicle_bus::Message>(path: PathBuf) -> Vec<M> {
    let options = SubscriberOptions { start: Start::Earliest, verify_reads: true, ..SubscriberOptions::default() };
    let mut queue = match Subscriber::<_, M>::observe(&Linux, path, options) {
        Ok(queue) => queue,
        Err(error) if error.is_not_found() => return Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let mut messages = Vec::new();
    loop {
        match queue.next() {
            Ok(Some(received)) => {
                assert_eq!(received.seq(), messages.len() as u64 + 1, "nothing was retired");
                messages.push(received.message().expect("a message"));
            }
            Ok(None) => return messages,
            Err(ReadError::Lost { .. }) => panic!("no machine has crashed"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn orders_are_done_once_whoever_is_killed() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("venue")).unwrap();
    let seed = std::env::var("BUS_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| Linux.now_ns());
    let seconds = std::env::var("BUS_KILL_SECONDS").ok().and_then(|it| it.parse().ok()).unwrap_or(6);
    println!("BUS_KILL_SEED={seed} BUS_KILL_SECONDS={seconds}");
    let mut state = seed | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let roles: Vec<&str> = STRATEGIES.into_iter().chain(["router"]).collect();
    let mut children: Vec<Child> = roles.iter().map(|role| start(role, dir)).collect();
    let (begun, mut kills) = (Instant::now(), [0; 4]);
    let caught = || fs::read_to_string(dir.join("caught")).ok();
    while begun.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(20 + random(120)));
        let victim = random(roles.len() as u64) as usize;
        children[victim].kill().unwrap();
        let status = children[victim].wait().unwrap();
        assert!(status.code().is_none(), "{} ended by itself with {status}: {:?}", roles[victim], caught());
        kills[victim] += 1;
        children[victim] = start(roles[victim], dir);
    }
    // Nobody is killed any more: what was sent comes to its end.
    // How often each was sent.
    let sent = || {
        let orders_out = |name: &str| layout(dir).orders_out(&Name::new(name).unwrap());
        let ids = |name| all::<Order>(orders_out(name)).into_iter().map(move |order| (name, order.id()));
        let mut sent: BTreeMap<(&str, OrderId), u32> = BTreeMap::new();
        for id in STRATEGIES.into_iter().flat_map(ids) {
            *sent.entry(id).or_default() += 1;
        }
        sent
    };
    let replies = || -> Vec<(&str, OrderId, ReplyKind)> {
        let orders_in = |name: &str| layout(dir).orders_in(&Name::new(name).unwrap());
        let of = |name| all::<Reply>(orders_in(name)).into_iter().map(move |it| (name, it.id(), it.kind().unwrap()));
        STRATEGIES.into_iter().flat_map(of).collect()
    };
    let until = Instant::now() + Duration::from_secs(60);
    // Strategies stop first: their orders are then a fixed set.
    for child in &mut children[..3] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let sent = sent();
    let mut filled: BTreeSet<(&str, OrderId)> = BTreeSet::new();
    let frames: u32 = sent.values().sum();
    let mut firsts = 0;
    while (filled.len() < sent.len() || firsts < frames as usize) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(caught(), None);
        let told = replies();
        filled = told.iter().filter(|it| it.2 == ReplyKind::Filled).map(|it| (it.0, it.1)).collect();
        firsts = told.iter().filter(|it| it.2 != ReplyKind::Filled).count();
    }
    fs::write(dir.join("over"), []).unwrap();
    let status = children[3].wait().unwrap();
    assert!(status.success(), "{status}");

    let venue: BTreeSet<String> =
        fs::read_dir(dir.join("venue")).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let expected: BTreeSet<String> = sent.keys().map(|(name, id)| format!("{name}.{id}")).collect();
    assert!(sent.len() > 100, "{} orders, {kills:?} kills", sent.len());
    assert_eq!(venue, expected, "done at the venue, and sent");
    let mut firsts: BTreeMap<(&str, OrderId), [u32; 3]> = BTreeMap::new();
    for (name, id, kind) in replies() {
        let counts = firsts.entry((name, id)).or_default();
        counts[match kind {
            ReplyKind::Acked => 0,
            ReplyKind::Filled => 1,
            ReplyKind::Known => 2,
            other => panic!("{name} {id} {other}"),
        }] += 1;
    }
    for (order, times) in &sent {
        // One first reply for each frame, whoever took it how often: what was sent again is known, once for each time.
        let counts = firsts.get(order).copied().unwrap_or_default();
        assert_eq!(counts, [1, 1, times - 1], "{order:?}, acked, filled, known: {kills:?} kills");
    }
    assert!(sent.values().any(|times| *times > 1), "nothing was sent again");
    assert_eq!(firsts.len(), sent.len(), "replies to orders that nobody sent");
    println!("{} orders, kills {kills:?}", sent.len());
}
