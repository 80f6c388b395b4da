//! The bytes of orders and replies are a promise to whoever writes a strategy in another language: they are compared with
//! bytes that were written down by hand from the drawing in `orders`, in both directions.

use chronicle_bus::{
    Message,
    message::{self, Malformed},
    orders::{Action, Life, Order, OrderId, OrderKind, Reason, Reply, ReplyKind, SYMBOL_MAX, Side},
};
use chronicle_core::{Frame, Payload};
use zerocopy::{FromBytes, IntoBytes};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

const LIMIT: &str = "
    0700000000000000 9800000000000000  0000000000000000 0000000000000000
    15cd5b0700000000 944d5e0000000000  f401000000000000 fe fd 01 01 01 02 0c 07
    62696e616e63652d73706f74 000000000000000000000000
    42544355534454 00 0000000000000000 0000000000000000 0000000000000000 0000000000000000";

const CANCEL: &str = "
    0700000000000000 9900000000000000  0700000000000000 9800000000000000
    0000000000000000 0000000000000000  0000000000000000 00 00 02 00 00 00 0c 07
    62696e616e63652d73706f74 000000000000000000000000
    42544355534454 00 0000000000000000 0000000000000000 0000000000000000 0000000000000000";

const FILL: &str = "
    0700000000000000 9800000000000000  0500000000000000 0400000000000000
    0700000000000000 9900000000000000  2a00000000000000 4d00000000000000
    0000000000000000 934d5e0000000000  c800000000000000 2c01000000000000
    fe fd 02 00 00000000 15cd5b0700000000  b168de3a00000000 c800000000000000";

fn limit() -> Order {
    let order = Order::limit("binance-spot", "BTCUSDT", Side::Buy, (6_180_244, -2), (500, -3)).unwrap();
    Order { epoch: 7.into(), seq: 152.into(), ..order.living(Life::Immediate).caused_at(123_456_789) }
}

fn frame(type_id: u16, payload: &[u8]) -> Frame<'_> {
    Frame { seq: 1, time_ns: 0, type_id, flags: 0, offset: 0, payload: Payload::own(payload) }
}

#[test]
fn records_have_the_bytes_of_the_drawing() {
    let order = limit();
    let cancel = Order { epoch: 7.into(), seq: 153.into(), ..order.cancel() };
    for (name, order, hex) in [("limit", order, LIMIT), ("cancel", cancel, CANCEL)] {
        let golden = bytes(hex);
        assert_eq!(order.as_bytes(), golden, "{name}");
        assert_eq!(message::read(&frame(256, &golden)), Ok(Some(order)), "{name}");
    }
    let fill = Reply::filled(&order, 42, 77, 6_180_243, 200, 200);
    let fill = Reply { order_seq: 5.into(), answered: 4.into(), high_epoch: 7.into(), high_seq: 153.into(), ..fill };
    let fill = Reply { order_ns: 987_654_321.into(), ..fill };
    let golden = bytes(FILL);
    assert_eq!(fill.as_bytes(), golden);
    assert_eq!(message::read(&frame(257, &golden)), Ok(Some(fill)));
    assert_eq!((Order::TYPE_ID, Reply::TYPE_ID), (256, 257));
}

#[test]
fn what_was_put_in_is_what_is_told() {
    let order = limit();
    assert_eq!((order.venue(), order.symbol(), order.id().to_string()), ("binance-spot", "BTCUSDT", "7-152".into()));
    assert_eq!(
        (order.action(), order.side(), order.kind(), order.life()),
        (Some(Action::New), Some(Side::Buy), Some(OrderKind::Limit), Some(Life::Immediate))
    );
    assert_eq!(format!("{order:?}"), "7-152 buy 0.500 BTCUSDT at binance-spot, price 61802.44");
    let cancel = order.cancel();
    assert_eq!((cancel.target(), cancel.side()), (order.id(), None));
    let market = Order::market("kraken", "BTC/USD", Side::Sell, (1, 0)).unwrap();
    assert_eq!((market.kind(), market.price.get()), (Some(OrderKind::Market), 0));
    let reply = Reply::rejected(&order, Reason::Venue, -2010);
    assert_eq!((reply.id(), reply.code.get(), reply.is_final()), (order.id(), -2010, true));
    assert_eq!(format!("{reply:?}"), "7-152 rejected: refused by the venue");
    assert!(!Reply::acked(&order, 1).is_final() && !Reply::filled(&order, 1, 1, 5, 200, 200).is_final());
    let last = Reply::filled(&order, 1, 2, 5, 300, 500);
    assert_eq!((last.left.get(), last.is_final()), (0, true));
    let cancelled = Reply::cancelled(&order, 1, 200, Reason::Asked);
    assert_eq!((cancelled.kind(), cancelled.left.get(), cancelled.is_final()), (Some(ReplyKind::Cancelled), 300, true));
    for long in ["", &"x".repeat(SYMBOL_MAX + 1)] {
        let error = Order::limit("v", long, Side::Buy, (1, 0), (1, 0)).unwrap_err();
        assert_eq!(error.to_string(), format!("name of {} bytes: an order takes 1 to 40", long.len()));
    }
    assert_eq!(Order::limit("v", &"x".repeat(SYMBOL_MAX), Side::Buy, (1, 0), (1, 0)).unwrap().symbol().len(), 40);
}

#[test]
fn an_id_is_read_as_it_is_written_and_nothing_else_is() {
    let id = OrderId { epoch: u64::MAX, seq: 1 };
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in ["", "-", "1", "1-", "-1", "0-1", "1-0", "01-1", "+1-1", "1-1-1", " 1-1", "1-18446744073709551616"] {
        assert!(text.parse::<OrderId>().is_err(), "{text}");
    }
    assert!(OrderId { epoch: 1, seq: 9 } < OrderId { epoch: 2, seq: 1 });
}

/// Any bytes may come from another process: each field that a reader goes by is looked at.
#[test]
fn every_field_that_no_writer_stores_is_refused() {
    let golden = bytes(LIMIT);
    let with = |at: usize, byte: u8| {
        let mut bytes = golden.clone();
        bytes[at] = byte;
        match message::read::<Order>(&frame(256, &bytes)) {
            Err(Malformed::Field { name, .. }) => name,
            other => panic!("byte {at} = {byte}: {other:?}"),
        }
    };
    let found = [
        (0, 0),
        (8, 0),
        (16, 1),
        (24, 1),
        (58, 0),
        (58, 2),
        (58, 3),
        (59, 0),
        (59, 3),
        (60, 0),
        (61, 4),
        (62, 0),
        (62, 25),
        (62, 11),
        (63, 41),
        (63, 0),
        (64, 0xff),
        (100, b'x'),
    ]
    .map(|(at, byte)| with(at, byte));
    let expected = [
        "epoch",
        "seq",
        "target_epoch",
        "target_seq",
        "action",
        "side",
        "action",
        "side",
        "side",
        "kind",
        "life",
        "venue",
        "venue",
        "venue",
        "symbol",
        "symbol",
        "venue",
        "symbol",
    ];
    assert_eq!(found, expected);
    let mut nothing = limit();
    nothing.qty = 0.into();
    assert_eq!(nothing.check(), Err(Malformed::Field { name: "qty", found: 0 }));
    nothing.qty = (-1).into();
    assert!(nothing.check().is_err());
    for (at, byte, name) in
        [(0, 0, "epoch"), (8, 0, "seq"), (16, 0, "order_seq"), (98, 0, "kind"), (98, 6, "kind"), (99, 8, "reason")]
    {
        let mut bytes = bytes(FILL);
        bytes[at] = byte;
        let refused = message::read::<Reply>(&frame(257, &bytes));
        assert!(matches!(refused, Err(Malformed::Field { name: it, .. }) if it == name), "{refused:?}");
    }
    // Whatever the bytes, looking at them says something and panics nowhere.
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut bytes = [0; 128];
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = if state >> 62 == 0 { (state >> 40) as u8 } else { (state >> 56) as u8 % 4 };
        }
        let (order, reply) = (Order::read_from_bytes(&bytes).unwrap(), Reply::read_from_bytes(&bytes).unwrap());
        _ = (order.check(), reply.check(), format!("{order:?}{reply:?}"), order.symbol().len(), reply.is_final());
    }
}
