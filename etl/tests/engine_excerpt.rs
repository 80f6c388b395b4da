//! The excerpt that ships with the project: what anybody can check without the large recordings. The venue's own best
//! bids and offers are the truth.

mod support;

use std::collections::BTreeMap;

use chronicle_etl::report::Report;
use chronicle_protocol::Record;
use chronicle_storage::root::Stream;

#[test]
fn books_of_the_excerpt_agree_with_the_venue() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/binance-spot/ethusdt-20240808-excerpt.gz");
    let bytes = std::fs::read(path).expect("the excerpt is part of the project");
    let frames = support::imported("binance-spot", "excerpt.gz", &bytes);
    let quotes: BTreeMap<u64, (String, String)> = frames
        .iter()
        .filter_map(|frame| match frame.record() {
            Record::Quote(q) => {
                let text = |price, qty| format!("{} x {}", q.head.price.decimal(price), q.head.qty.decimal(qty));
                Some((q.update_id, (text(q.bid_price, q.bid_qty), text(q.ask_price, q.ask_qty))))
            }
            _ => None,
        })
        .collect();
    let (mut refinery, mut memory) = (support::refinery("binance-spot"), support::Memory::default());
    let mut equal = 0;
    let mut last = 0;
    for frame in &frames {
        refinery.frame(frame.frame(), &mut memory).unwrap();
        let Some(symbol) = refinery.symbols().first() else { continue };
        if !symbol.is_valid() || symbol.last().0 == last {
            continue;
        }
        last = symbol.last().0;
        if let Some((bid, ask)) = quotes.get(&last) {
            let book = symbol.book();
            let text = |(price, qty)| format!("{} x {}", book.price(price), book.qty(qty));
            assert_eq!(
                (&text(book.bids().next().unwrap()), &text(book.asks().next().unwrap())),
                (bid, ask),
                "u {last}"
            );
            equal += 1;
        }
    }
    assert!(equal > 50, "{equal} compared");
    let report = Report::of(&refinery);
    assert!(report.partitions.iter().all(|row| row.gaps.is_empty() && row.counts.duplicates == 0));
    let applied: u64 =
        report.partitions.iter().filter(|row| row.stream == Stream::Book).map(|row| row.counts.applied).sum();
    assert!(applied > 100, "{applied} applied");
}
