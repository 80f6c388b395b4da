//! Orders over two queues: none lost, none done twice, whoever dies between which two steps. Processes are the simulator's:
//! dropped where a kill would drop them; real ones are killed in `patterns_kill.rs`.

use chronicle_bus::{
    Discovery, DiscoveryOptions, Kind, Layout, RouterEnd, StrategyEnd,
    ends::{FromStrategy, News, Past, RouterOptions, StrategyOptions, Taken},
    message::Message,
    orders::{Order, OrderId, Reply, ReplyKind, Side},
    typed::Received,
    watch::Blind,
};
use chronicle_core::Append;
use chronicle_platform::{Platform, sim::Sim};
use chronicle_storage::{
    queue::{Profile, PublisherOptions, Queue, Refused, SubscriberOptions},
    root::Name,
};
use std::time::Duration;

type Router = RouterEnd<Sim, Blind<Sim>>;

fn layout() -> Layout {
    Layout::new("/hot")
}

fn small() -> PublisherOptions {
    PublisherOptions { segment_len: 4096, max_bytes: 8 * 4096, helper: false, ..PublisherOptions::new(Profile::Orders) }
}

fn strategy(sim: &Sim, name: &str) -> StrategyEnd<Sim> {
    let options = StrategyOptions { renew: false, queue: small(), ..StrategyOptions::default() };
    StrategyEnd::open(sim, &layout(), name, &options).unwrap()
}

fn router(sim: &Sim) -> Router {
    router_with(sim, small())
}

fn router_with(sim: &Sim, queue: PublisherOptions) -> Router {
    sim.create_dirs(&layout().kind_dir(Kind::Strategy)).unwrap();
    let kinds = DiscoveryOptions { kinds: vec![Kind::Strategy], ..DiscoveryOptions::default() };
    let discovery = Discovery::with_watch(sim, &layout(), kinds, Blind(sim.clone())).unwrap();
    let options = RouterOptions { queue, ..RouterOptions::default() };
    RouterEnd::over(sim, &layout(), discovery, options)
}

/// A router that has taken on who is there.
fn joined(sim: &Sim) -> Router {
    let mut router = router(sim);
    router.drive();
    router
}

fn order(qty: i64) -> Order {
    Order::limit("venue", "BTCUSDT", Side::Buy, (100, 0), (qty, 0)).unwrap()
}

fn send(end: &mut StrategyEnd<Sim>, time_ns: u64, qty: i64) -> OrderId {
    for _ in 0..100 {
        match end.send(time_ns, &order(qty)) {
            Ok(sent) => return sent.id(),
            Err(Refused::NotReady) => end.orders().queue().maintain(),
            Err(refused) => panic!("{refused}"),
        }
    }
    panic!("never ready");
}

fn take(router: &mut Router) -> Option<Taken> {
    match router.next(0)? {
        FromStrategy::Order(taken) => Some(taken),
        other => panic!("{other:?}"),
    }
}

fn take_all(router: &mut Router) -> Vec<Taken> {
    std::iter::from_fn(|| take(router)).collect()
}

fn ack(router: &mut Router, taken: &Taken) {
    router.reply(taken, 1, &Reply::acked(&taken.order, taken.seq)).unwrap();
}

fn replies(end: &mut StrategyEnd<Sim>) -> Vec<(OrderId, ReplyKind)> {
    let mut all = Vec::new();
    while let Some(received) = end.next().unwrap() {
        let reply = received.message().unwrap();
        all.push((reply.id(), reply.kind().unwrap()));
    }
    all
}

fn id(epoch: u64, seq: u64) -> OrderId {
    OrderId { epoch, seq }
}

#[test]
fn orders_go_there_and_replies_come_back() {
    let sim = Sim::new(1);
    let mut router = router(&sim);
    assert!(router.drive().is_empty());
    let (mut one, mut two) = (strategy(&sim, "one"), strategy(&sim, "two"));
    router.discovery().rescan();
    let joined: Vec<String> = router
        .drive()
        .iter()
        .filter_map(|news| match news {
            News::Joined { strategy, .. } => Some(strategy.to_string()),
            News::Changed(_) => None,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(joined, ["one", "two"]);
    send(&mut one, 20, 1);
    send(&mut two, 10, 2);
    send(&mut one, 30, 3);
    let taken = take_all(&mut router);
    let told: Vec<_> = taken.iter().map(|it| (router.strategy(it.from).unwrap().to_string(), it.order.id())).collect();
    let name = str::to_owned;
    assert_eq!(told, [(name("two"), id(1, 1)), (name("one"), id(1, 1)), (name("one"), id(1, 2))]);
    assert!(taken.iter().all(|it| it.fresh && !it.late));
    assert_eq!(one.unanswered().unwrap().len(), 2);
    for it in &taken {
        ack(&mut router, it);
        router.reply(it, 2, &Reply::filled(&it.order, 1, 1, 100, 1, 1)).unwrap();
    }
    assert_eq!(
        replies(&mut one),
        [
            (id(1, 1), ReplyKind::Acked),
            (id(1, 1), ReplyKind::Filled),
            (id(1, 2), ReplyKind::Acked),
            (id(1, 2), ReplyKind::Filled)
        ]
    );
    assert_eq!(replies(&mut two).len(), 2);
    assert!(one.unanswered().unwrap().is_empty());
    assert_eq!(router.owed(0) + router.owed(1), 0);
}

/// A router is dropped behind each of its steps, in each of many orders; what was answered never comes again, and what was
/// not comes until it is.
#[test]
fn a_router_that_dies_takes_again_what_it_has_not_answered_and_nothing_else() {
    for answers in 0..=6_usize {
        let sim = Sim::new(1);
        let mut end = strategy(&sim, "s");
        let mut first = joined(&sim);
        for qty in 1..=6 {
            send(&mut end, qty as u64, qty);
        }
        let taken = take_all(&mut first);
        assert!(taken.len() == 6 && taken.iter().all(|it| it.fresh));
        // Answered in an order of the venue's: a hole stays, and the cursor before it.
        let order: [usize; 6] = [3, 0, 1, 5, 2, 4];
        for at in &order[..answers] {
            ack(&mut first, &taken[*at]);
        }
        drop(first);
        send(&mut end, 7, 7);
        let mut second = joined(&sim);
        send(&mut end, 8, 8);
        let again = take_all(&mut second);
        let left: Vec<u64> = (0..6).filter(|at| !order[..answers].contains(at)).map(|at| at as u64 + 1).collect();
        let expected: Vec<u64> = left.iter().copied().chain([7, 8]).collect();
        assert_eq!(again.iter().map(|it| it.seq).collect::<Vec<_>>(), expected, "{answers} answers");
        // A router had this queue before: what lay there when the second came may have been taken.
        let fresh: Vec<u64> = again.iter().filter(|it| it.fresh).map(|it| it.seq).collect();
        assert_eq!(fresh, [8], "{answers} answers");
        for it in &again {
            ack(&mut second, it);
        }
        let mut acked: Vec<u64> = replies(&mut end).into_iter().map(|(id, _)| id.seq).collect();
        acked.sort_unstable();
        assert_eq!(acked, [1, 2, 3, 4, 5, 6, 7, 8], "each once");
        drop(second);
        assert!(take(&mut joined(&sim)).is_none());
    }
}

/// The cursor alone cannot do it: it is stored behind the reply. The reply says what the cursor would have said.
#[test]
fn a_router_that_dies_between_reply_and_cursor_does_not_answer_twice() {
    let sim = Sim::new(1);
    let mut end = strategy(&sim, "s");
    let sent = send(&mut end, 1, 1);
    let mut first = joined(&sim);
    let taken = take(&mut first).unwrap();
    drop(first);
    // What it appended before it died, with no word to its cursor.
    let name = Name::new("s").unwrap();
    let required = PublisherOptions { required: vec!["strategy".into()], ..small() };
    let mut queue = Queue::publisher(&sim, layout().orders_in(&name), required).unwrap();
    let reply = Reply {
        order_seq: taken.seq.into(),
        answered: taken.seq.into(),
        high_epoch: 1.into(),
        high_seq: 1.into(),
        ..Reply::acked(&taken.order, 1)
    };
    let append = Append { time_ns: 1, type_id: Reply::TYPE_ID, flags: 0 };
    queue.append(append, zerocopy::IntoBytes::as_bytes(&reply)).unwrap();
    drop(queue);
    let mut second = joined(&sim);
    assert_eq!(take(&mut second), None);
    assert_eq!(replies(&mut end), [(sent, ReplyKind::Acked)]);
    // And its high water stands: the same id again is known.
    end.send_again(2, &taken.order).unwrap();
    let again = take(&mut second).unwrap();
    assert!(!again.fresh);
    second.reply(&again, 3, &Reply::known(&again.order)).unwrap();
    assert_eq!(replies(&mut end), [(sent, ReplyKind::Known)]);
}

#[test]
fn an_order_that_is_sent_again_is_recognised_by_any_router() {
    let sim = Sim::new(1);
    let mut end = strategy(&sim, "s");
    let mut first = joined(&sim);
    send(&mut end, 1, 1);
    send(&mut end, 2, 2);
    let taken = take_all(&mut first);
    end.send_again(3, &taken[0].order).unwrap();
    let again = take(&mut first).unwrap();
    assert_eq!((again.order, again.fresh, again.seq), (taken[0].order, false, 3));
    for it in taken.iter().chain([&again]) {
        ack(&mut first, it);
    }
    drop(first);
    let mut second = joined(&sim);
    end.send_again(4, &taken[1].order).unwrap();
    send(&mut end, 5, 5);
    let fresh: Vec<_> = take_all(&mut second).iter().map(|it| (it.order.id().seq, it.fresh)).collect();
    assert_eq!(fresh, [(2, false), (3, true)]);
}

/// It knows nothing any more, and needs to: its queues do.
#[test]
fn a_strategy_that_comes_back_finds_what_it_sent_and_what_came_of_it() {
    let sim = Sim::new(1);
    let mut end = strategy(&sim, "s");
    for qty in 1..=4 {
        send(&mut end, qty as u64, qty);
    }
    let mut router = joined(&sim);
    let taken = take_all(&mut router);
    ack(&mut router, &taken[0]);
    ack(&mut router, &taken[2]);
    assert_eq!(replies(&mut end).len(), 2);
    // Read, and not committed.
    drop(end);
    let mut end = strategy(&sim, "s");
    assert_eq!(end.epoch(), 2);
    let open: Vec<_> = end.unanswered().unwrap().iter().map(Order::id).collect();
    assert_eq!(open, [id(1, 2), id(1, 4)], "on their way, not to be sent again");
    assert_eq!(replies(&mut end), [(id(1, 1), ReplyKind::Acked), (id(1, 3), ReplyKind::Acked)]);
    end.commit().unwrap();
    assert_eq!(send(&mut end, 9, 9), id(2, 1), "no id twice");
    ack(&mut router, &taken[1]);
    drop(end);
    let mut end = strategy(&sim, "s");
    assert_eq!(replies(&mut end), [(id(1, 2), ReplyKind::Acked)]);
    // The router has kept its number all along.
    let later = take(&mut router).unwrap();
    assert_eq!((later.from, later.order.id(), later.fresh), (taken[0].from, id(2, 1), true));
    let mut past = (0, 0);
    router
        .history(later.from, |it| match it {
            Past::Order(taken) => past.0 += taken.seq,
            Past::Reply(_) => past.1 += 1,
        })
        .unwrap();
    assert_eq!(past, (1 + 2 + 3, 3));
}

/// Orders of one that died before any router came are still orders.
#[test]
fn the_orders_of_a_dead_strategy_are_answered() {
    let sim = Sim::new(1);
    let mut end = strategy(&sim, "s");
    send(&mut end, 1, 1);
    drop(end);
    let mut router = joined(&sim);
    let taken = take(&mut router).unwrap();
    assert!(taken.fresh, "no router ever had this queue");
    ack(&mut router, &taken);
    assert_eq!(replies(&mut strategy(&sim, "s")), [(id(1, 1), ReplyKind::Acked)]);
}

/// Retention waits for the other side, dead or alive, in both directions; full is told and takes nothing away.
#[test]
fn who_never_comes_is_waited_for_until_the_queue_is_full() {
    let sim = Sim::new(1);
    let mut end = strategy(&sim, "s");
    let mut sent = 0;
    let refused = loop {
        match end.send(1, &order(1)) {
            Ok(_) => sent += 1,
            Err(Refused::NotReady) => end.orders().queue().maintain(),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Refused::QueueFull { .. }), "{refused}");
    assert!(sent > 100, "{sent}");
    sim.sleep(Duration::from_secs(3600));
    // Room for fewer replies than there are orders.
    let mut router = router_with(&sim, PublisherOptions { max_bytes: 4 * 4096, ..small() });
    router.drive();
    let mut answered = 0;
    let mut full = None;
    while let Some(taken) = take(&mut router) {
        assert_eq!(taken.order.id(), id(1, answered + 1), "none was retired unread");
        match router.reply(&taken, 1, &Reply::acked(&taken.order, 1)) {
            Ok(_) => answered += 1,
            Err(refused) => {
                full = Some((taken, refused));
                break;
            }
        }
    }
    let (held, refused) = full.expect("the strategy has read nothing, so its queue fills too");
    assert!(matches!(refused, Refused::QueueFull { .. } | Refused::NotReady), "{refused}");
    // It reads, and both go on where they were.
    let mut heard = 0;
    let mut rest = vec![held];
    for _ in 0..10_000 {
        heard += replies(&mut end).len() as u64;
        end.commit().unwrap();
        router.maintain();
        if let Some(taken) = rest.pop().or_else(|| take(&mut router)) {
            match router.reply(&taken, 1, &Reply::acked(&taken.order, 1)) {
                Ok(_) => answered += 1,
                Err(_) => rest.push(taken),
            }
        } else {
            break;
        }
    }
    heard += replies(&mut end).len() as u64;
    assert_eq!((answered, heard), (sent, sent));
}

/// What is no order is told and owed nothing; it stops neither the cursor nor those behind it.
#[test]
fn a_frame_that_is_no_order_is_told_once() {
    let sim = Sim::new(1);
    let mut end = strategy(&sim, "s");
    let mut router = joined(&sim);
    end.orders().queue().append(Append { time_ns: 1, type_id: 9, flags: 0 }, b"what").unwrap();
    end.orders().queue().append(Append { time_ns: 2, type_id: Order::TYPE_ID, flags: 0 }, b"short").unwrap();
    send(&mut end, 3, 1);
    let mut told = Vec::new();
    let mut taken = None;
    while let Some(next) = router.next(0) {
        match next {
            FromStrategy::Unreadable { seq, type_id, reason, .. } => told.push((seq, type_id, reason.is_some())),
            FromStrategy::Order(it) => taken = Some(it),
            FromStrategy::Event(event) => panic!("{event}"),
        }
    }
    assert_eq!(told, [(1, 9, false), (2, 256, true)]);
    ack(&mut router, &taken.unwrap());
    drop(router);
    assert!(joined(&sim).next(0).is_none(), "told once");
}

/// Somebody removed a strategy's orders and kept its replies: seqs begin again, and none of the new ones is passed over.
#[test]
fn another_queue_of_orders_is_not_taken_for_the_one_that_was_answered() {
    let sim = Sim::new(1);
    let mut end = strategy(&sim, "s");
    let mut router = joined(&sim);
    for qty in 1..=5 {
        send(&mut end, qty as u64, qty);
    }
    for taken in take_all(&mut router) {
        ack(&mut router, &taken);
    }
    drop((end, router));
    let orders_out = layout().orders_out(&Name::new("s").unwrap());
    for dir in ["readers", "index", "."].map(|dir| orders_out.join(dir)) {
        for entry in sim.list(&dir).unwrap().into_iter().filter(|entry| !entry.is_dir) {
            sim.remove(&dir.join(entry.name)).unwrap();
        }
    }
    let mut end = strategy(&sim, "s");
    for qty in 1..=3 {
        send(&mut end, qty as u64, qty);
    }
    let mut router = joined(&sim);
    let ids: Vec<_> = take_all(&mut router).iter().map(|it| it.order.id()).collect();
    assert_eq!(ids, [id(2, 1), id(2, 2), id(2, 3)]);
}

/// A reader of replies that does not know the ends still sees plain messages.
#[test]
fn replies_say_how_long_it_took() {
    let sim = Sim::new(1);
    let mut end = strategy(&sim, "s");
    let mut router = joined(&sim);
    end.send(50, &order(1).caused_at(40)).unwrap();
    let taken = take(&mut router).unwrap();
    ack(&mut router, &taken);
    let name = Name::new("s").unwrap();
    let mut plain =
        chronicle_bus::Subscriber::<_, Reply>::observe(&sim, layout().orders_in(&name), SubscriberOptions::default())
            .unwrap();
    let Some(Received::Message { message, .. }) = plain.next().unwrap() else { panic!("one reply") };
    assert_eq!((message.cause_ns.get(), message.order_ns.get(), message.order_seq.get()), (40, 50, 1));
}
