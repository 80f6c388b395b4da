//! Any messages applied to a book: it is the map that they say, in the venue's order, whatever scales and prices they have.
#![no_main]

use std::collections::BTreeMap;

use chronicle_etl::book::{Book, Touch};
use chronicle_fuzz::choices;
use chronicle_protocol::{Head, Level, Scale};
use libfuzzer_sys::fuzz_target;

/// The finest exponent that a message has here: every number is a whole one at it.
const FINEST: i8 = -4;

/// A price, and a quantity; near the others, or anywhere.
fn level(step: &[u8; 6]) -> Level {
    let [kind, a, b, c, d, qty] = *step;
    let near = i64::from(u16::from_le_bytes([a, b]));
    let price = match kind % 8 {
        0 => i64::from_le_bytes([a, b, c, d, a, b, c, d]),
        1 => i64::MAX - near,
        2 => i64::MIN + near,
        3 => near + i64::from(c) * 1_000_000,
        _ => 10_000 + near % 512,
    };
    Level::new(price, if qty % 3 == 0 { 0 } else { i64::from(qty) - 90 })
}

fuzz_target!(|data: &[u8]| {
    let (choice, mut rest) = choices(data);
    let several_scales = choice % 2 == 1;
    let (mut book, mut model) = (Book::new(), [BTreeMap::new(), BTreeMap::new()]);
    while let Some((&[kind, bids, asks], behind)) = rest.split_first_chunk::<3>() {
        let exp = |bits: u8| if several_scales { -((bits % 5) as i8) } else { -2 };
        let trimmed = kind & 0x40 != 0 && several_scales;
        let head = Head {
            price: Scale { exp: exp(kind), trimmed },
            qty: Scale { exp: exp(kind >> 3), trimmed },
            ..Head::default()
        };
        let (steps, _) = behind.as_chunks::<6>();
        let bids = usize::from(bids % 64).min(steps.len());
        let asks = usize::from(asks % 64).min(steps.len() - bids);
        let levels: Vec<Level> = steps[..bids + asks].iter().map(level).collect();
        rest = &behind[(bids + asks) * 6..];
        let sides = levels.split_at(bids);
        let is_snapshot = kind & 0x80 != 0;
        let before = book.clone();
        let done =
            if is_snapshot { book.replace(&head, sides.0, sides.1) } else { book.apply(&head, sides.0, sides.1) };
        let Ok(changes) = done else {
            assert!(book == before, "a message that does not fit changes nothing");
            continue;
        };
        if is_snapshot {
            model = Default::default();
        }
        let finest = |mantissa: i64, exp: i8| i128::from(mantissa) * 10_i128.pow((exp - FINEST) as u32);
        let mut unknown = 0;
        for (model, side) in model.iter_mut().zip([sides.0, sides.1]) {
            for level in side {
                let price = finest(level.price(), head.price.exp);
                let was = match level.qty() {
                    0 => model.remove(&price),
                    qty => model.insert(price, finest(qty, head.qty.exp)),
                };
                unknown += u64::from(was.is_none() && level.qty() == 0);
            }
        }
        assert_eq!(changes.unknown_removals, unknown);
        let scales = (book.price_scale().exp, book.qty_scale().exp);
        let same = |(price, qty): (i64, i64)| (finest(price, scales.0), finest(qty, scales.1));
        assert!(book.bids().map(same).eq(model[0].iter().rev().map(|(p, q)| (*p, *q))));
        assert!(book.asks().map(same).eq(model[1].iter().map(|(p, q)| (*p, *q))));
        assert_eq!((book.bid_count(), book.ask_count()), (model[0].len(), model[1].len()));
        assert_eq!(book.best(), (book.bids().next(), book.asks().next()));
        let touch = match (model[0].last_key_value(), model[1].first_key_value()) {
            (Some(bid), Some(ask)) if bid.0 > ask.0 => Touch::Crossed,
            (Some(bid), Some(ask)) if bid.0 == ask.0 => Touch::Locked,
            _ => Touch::Apart,
        };
        assert_eq!(book.touch(), touch);
    }
});
