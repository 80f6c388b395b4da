//! A frame as a line: text for people, one JSON object for machines. What `cat` and `tail` share.

use crate::run::rfc3339;
use chronicle::{
    Frame,
    bus::{
        message::read,
        orders::{Action, Order, Reason, Reply, ReplyKind},
    },
    protocol::{BookOrder, Head, Level, OrderCount, Record, Scale, Side, SnapshotSource},
};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{self, Write},
};

/// How lines are written.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    /// One JSON object a line.
    pub(crate) json: bool,
    /// Of a book's record, so many levels of each side in a line of text; with none only how many there are.
    pub(crate) levels: usize,
}

/// Writes a frame whose payload was copied out.
pub(crate) fn frame(out: &mut dyn Write, style: Style, frame: &Frame<'_>, payload: &[u8]) -> io::Result<()> {
    let record = Record::parse(frame.type_id, payload);
    if style.json {
        let mut line = json!({
            "seq": frame.seq,
            "time_ns": frame.time_ns,
            "type_id": frame.type_id,
            "flags": frame.flags,
            "len": payload.len(),
            "payload": hex(payload),
        });
        let decoded = record.as_ref().ok().map(decoded).or_else(|| said(frame).map(|said| said.decoded()));
        if let (Some(decoded), Some(line)) = (decoded, line.as_object_mut()) {
            line.insert("record".to_owned(), decoded);
        }
        return writeln!(out, "{line}");
    }
    let said = if record.is_err() { said(frame) } else { None };
    let mut what = match (&record, &said) {
        (Ok(record), _) => brief(record),
        (Err(_), Some(said)) => said.brief(),
        (Err(_), None) => format!("type {}", frame.type_id),
    };
    if style.levels > 0 && said.is_none() {
        match &record {
            Ok(Record::BookDelta(d)) => what += &best(&d.head, d.bids, d.asks, style.levels),
            Ok(Record::BookSnapshot(s)) => what += &best(&s.head, s.bids, s.asks, style.levels),
            Ok(Record::CountedSnapshot(s)) => what += &best(&s.book.head, s.book.bids, s.book.asks, style.levels),
            Ok(_) => {}
            Err(_) => _ = write!(what, "   {} bytes  {}", payload.len(), peek(payload)),
        }
    }
    let flags = if frame.flags == 0 { String::new() } else { format!(" flags {:#x}", frame.flags) };
    writeln!(out, "{:>10}  {:<30}  {what}{flags}", frame.seq, rfc3339(frame.time_ns))
}

/// Writes that frames are gone.
pub(crate) fn lost(out: &mut dyn Write, style: Style, from: u64, to: u64) -> io::Result<()> {
    if style.json {
        writeln!(out, "{}", json!({ "lost": { "from": from, "to": to } }))
    } else {
        writeln!(out, "frames {from} to at most {to} are lost")
    }
}

/// What a strategy or the router says.
pub(crate) enum Said {
    Order(Box<Order>),
    Reply(Box<Reply>),
}

/// What a frame says, if it is an order or a reply and whole.
pub(crate) fn said(frame: &Frame<'_>) -> Option<Said> {
    if let Ok(Some(order)) = read::<Order>(frame) {
        return Some(Said::Order(Box::new(order)));
    }
    read::<Reply>(frame).ok().flatten().map(|reply| Said::Reply(Box::new(reply)))
}

impl Said {
    fn brief(&self) -> String {
        match self {
            Said::Order(order) => {
                let (id, symbol, venue) = (order.id(), order.symbol(), order.venue());
                match (order.action(), order.side(), order.kind(), order.life()) {
                    (Some(Action::Cancel), ..) => format!("cancel    {symbol} at {venue} {id}, of {}", order.target()),
                    (_, Some(side), Some(kind), Some(life)) => {
                        let (price, qty) = order_numbers(order);
                        let price = price.map_or_else(String::new, |price| format!("{price} × "));
                        format!("order     {symbol} at {venue} {id}, {side} {price}{qty}, {kind} {life}")
                    }
                    _ => format!("order     {symbol} at {venue} {id}"),
                }
            }
            Said::Reply(reply) => {
                let (id, qty) = (reply.id(), |mantissa| decimal(reply.qty_exp, mantissa));
                let kind = reply.kind().map_or_else(|| reply.kind.to_string(), |kind| kind.to_string());
                let mut text = format!("{kind:<9} {id}");
                if reply.kind() == Some(ReplyKind::Filled) {
                    let price = decimal(reply.price_exp, reply.price.get());
                    let (of, left) = (qty(reply.qty.get()), qty(reply.left.get()));
                    _ = write!(text, ", {price} × {of}, {left} left, fill {}", reply.fill_id);
                }
                if let Some(reason) = reply.reason().filter(|reason| *reason != Reason::None) {
                    _ = write!(text, ", {reason}");
                }
                if reply.code.get() != 0 {
                    _ = write!(text, " ({})", reply.code);
                }
                text
            }
        }
    }

    fn decoded(&self) -> Value {
        match self {
            Said::Order(order) => {
                let (price, qty) = order_numbers(order);
                let cancel = order.action() == Some(Action::Cancel);
                json!({
                    "kind": if cancel { "cancel" } else { "order" },
                    "id": order.id().to_string(), "venue": order.venue(), "symbol": order.symbol(),
                    "target": cancel.then(|| order.target().to_string()),
                    "side": order.side().map(|side| side.to_string()),
                    "type": order.kind().map(|kind| kind.to_string()),
                    "life": order.life().map(|life| life.to_string()),
                    "price": price, "qty": (!cancel).then_some(qty), "cause_ns": order.cause_ns.get(),
                })
            }
            Said::Reply(reply) => {
                let fill = reply.kind() == Some(ReplyKind::Filled);
                let qty = |mantissa| decimal(reply.qty_exp, mantissa);
                json!({
                    "kind": "reply", "id": reply.id().to_string(),
                    "says": reply.kind().map(|kind| kind.to_string()),
                    "reason": reply.reason().filter(|reason| *reason != Reason::None).map(|reason| reason.to_string()),
                    "code": reply.code.get(), "venue_id": reply.venue_id.get(), "fill_id": reply.fill_id.get(),
                    "price": fill.then(|| decimal(reply.price_exp, reply.price.get())),
                    "qty": fill.then(|| qty(reply.qty.get())), "filled": qty(reply.filled.get()),
                    "left": qty(reply.left.get()), "venue_ns": reply.venue_ns.get(), "order_ns": reply.order_ns.get(),
                    "cause_ns": reply.cause_ns.get(),
                })
            }
        }
    }
}

/// Price, where it has one, and quantity.
fn order_numbers(order: &Order) -> (Option<String>, String) {
    let price = (order.price.get() != 0).then(|| decimal(order.price_exp, order.price.get()));
    (price, decimal(order.qty_exp, order.qty.get()))
}

fn decimal(exp: i8, mantissa: i64) -> String {
    Scale { exp, trimmed: false }.decimal(mantissa).to_string()
}

/// The first levels of both sides, prices exact.
fn best(head: &Head, bids: &[Level], asks: &[Level], most: usize) -> String {
    let mut text = String::new();
    for (side, levels) in [("bid", bids), ("ask", asks)] {
        for (at, level) in levels.iter().take(most).enumerate() {
            let (price, qty) = (head.price.decimal(level.price()), head.qty.decimal(level.qty()));
            _ = write!(text, "{}{price} × {qty}", if at == 0 { format!("   {side} ") } else { ", ".to_owned() });
        }
        if levels.len() > most {
            text += ", …";
        }
    }
    text
}

/// The first bytes of what is no record of ours, as text where they are.
fn peek(payload: &[u8]) -> String {
    let first = &payload[..payload.len().min(24)];
    let more = if first.len() < payload.len() { "…" } else { "" };
    if first.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        format!("\"{}\"{more}", first.escape_ascii())
    } else {
        format!("{}{more}", hex(first))
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

pub(crate) fn brief(record: &Record<'_>) -> String {
    let head = record.head();
    match record {
        Record::BookDelta(d) => format!(
            "delta     {} ids {}..{}, {} bids, {} asks",
            d.symbol,
            d.first_id,
            d.last_id,
            d.bids.len(),
            d.asks.len()
        ),
        Record::BookSnapshot(s) => format!(
            "snapshot  {} id {}, {} bids, {} asks, by the {}",
            s.symbol,
            s.last_id,
            s.bids.len(),
            s.asks.len(),
            maker(s.source)
        ),
        Record::Trade(t) => format!(
            "trade     {} id {}, {} × {}, {}",
            t.symbol,
            t.trade_id,
            head.price.decimal(t.price),
            head.qty.decimal(t.qty),
            if t.buyer_is_maker { "sell" } else { "buy" }
        ),
        Record::Quote(q) => format!(
            "quote     {} id {}, {} × {} / {} × {}",
            q.symbol,
            q.update_id,
            head.price.decimal(q.bid_price),
            head.qty.decimal(q.bid_qty),
            head.price.decimal(q.ask_price),
            head.qty.decimal(q.ask_qty)
        ),
        Record::Gap(g) => {
            format!("gap       {} ids {}..{} missing ({})", g.symbol, g.missing_from, g.missing_to, g.cause.as_str())
        }
        Record::Opaque(o) => {
            let text = String::from_utf8_lossy(o.bytes);
            format!("opaque    {} ({}) {}", o.symbol, o.reason.as_str(), text.chars().take(100).collect::<String>())
        }
        Record::Source(s) => format!("source    {}", s.name),
        Record::OrderEvent(o) => {
            let mut text = format!("{:<9} {}", o.action.as_str(), o.symbol);
            if o.order_id != 0 {
                _ = write!(text, " order {}", o.order_id);
            }
            if let Some(side) = o.side {
                _ = write!(text, " {}", side.as_str());
            }
            match o.price {
                Some(price) => _ = write!(text, " {} × {}", head.price.decimal(price), head.qty.decimal(o.qty)),
                None if o.qty != 0 => _ = write!(text, " {}", head.qty.decimal(o.qty)),
                None => {}
            }
            text
        }
        Record::OrdersSnapshot(s) => format!(
            "snapshot  {} seq {}, {} bid orders, {} ask orders, by the {}",
            s.symbol,
            s.sequence,
            s.bids.len(),
            s.asks.len(),
            maker(s.source)
        ),
        Record::TextTrade(t) => format!(
            "trade     {}{}{}, {} × {}, {}",
            t.symbol,
            if t.id.is_empty() { "" } else { " id " },
            t.id,
            head.price.decimal(t.price),
            head.qty.decimal(t.qty),
            match t.side {
                Some(Side::Bid) => "buy",
                Some(Side::Ask) => "sell",
                None => "side not known",
            }
        ),
        Record::CountedSnapshot(s) => brief(&Record::BookSnapshot(s.book)),
    }
}

pub(crate) fn decoded(record: &Record<'_>) -> Value {
    let head = record.head();
    let mut value = match record {
        Record::BookDelta(d) => json!({
            "kind": "book_delta", "symbol": d.symbol, "first_id": d.first_id, "last_id": d.last_id, "prev_id": d.prev_id,
            "bids": levels(d.bids, head), "asks": levels(d.asks, head),
        }),
        Record::BookSnapshot(s) => json!({
            "kind": "book_snapshot", "symbol": s.symbol, "last_id": s.last_id, "last_event_ns": s.last_event_ns,
            "source": maker(s.source),
            "opens_partition": s.opens_partition, "bids": levels(s.bids, head), "asks": levels(s.asks, head),
        }),
        Record::Trade(t) => json!({
            "kind": "trade", "symbol": t.symbol, "trade_id": t.trade_id,
            "price": head.price.decimal(t.price).to_string(), "qty": head.qty.decimal(t.qty).to_string(),
            "buyer_is_maker": t.buyer_is_maker, "order_type": t.order_type.map(|kind| kind.as_str()),
        }),
        Record::Quote(q) => json!({
            "kind": "quote", "symbol": q.symbol, "update_id": q.update_id,
            "bid_price": head.price.decimal(q.bid_price).to_string(), "bid_qty": head.qty.decimal(q.bid_qty).to_string(),
            "ask_price": head.price.decimal(q.ask_price).to_string(), "ask_qty": head.qty.decimal(q.ask_qty).to_string(),
        }),
        Record::Gap(g) => json!({
            "kind": "gap", "symbol": g.symbol, "after": g.after_id, "next": g.next_id,
            "missing_from": g.missing_from, "missing_to": g.missing_to, "cause": g.cause.as_str(), "carried": g.carried,
        }),
        Record::Opaque(o) => json!({
            "kind": "opaque", "symbol": o.symbol, "reason": o.reason.as_str(), "text": String::from_utf8_lossy(o.bytes),
        }),
        Record::Source(s) => json!({
            "kind": "source", "name": s.name, "sha256": s.sha256.map(|sha256| hex(&sha256)),
        }),
        Record::OrderEvent(o) => json!({
            "kind": "order_event", "symbol": o.symbol, "action": o.action.as_str(), "side": o.side.map(Side::as_str),
            "order_id": o.order_id, "price": o.price.map(|price| head.price.decimal(price).to_string()),
            "qty": head.qty.decimal(o.qty).to_string(), "sequence": o.sequence, "flags": o.flags.0, "channel": o.channel,
        }),
        Record::OrdersSnapshot(s) => json!({
            "kind": "orders_snapshot", "symbol": s.symbol, "sequence": s.sequence, "last_event_ns": s.last_event_ns,
            "source": maker(s.source), "opens_partition": s.opens_partition,
            "bids": orders(s.bids, head), "asks": orders(s.asks, head),
        }),
        Record::TextTrade(t) => json!({
            "kind": "text_trade", "symbol": t.symbol, "trade_id": t.id, "side": t.side.map(Side::as_str),
            "price": head.price.decimal(t.price).to_string(), "qty": head.qty.decimal(t.qty).to_string(),
            "sequence": t.sequence, "flags": t.flags.0,
        }),
        Record::CountedSnapshot(s) => {
            let mut value = decoded(&Record::BookSnapshot(s.book));
            let counts = |counts: &[OrderCount]| counts.iter().map(OrderCount::get).collect::<Vec<_>>();
            value["kind"] = "counted_snapshot".into();
            value["bid_counts"] = counts(s.bid_counts).into();
            value["ask_counts"] = counts(s.ask_counts).into();
            value
        }
    };
    if let Some(value) = value.as_object_mut() {
        for (name, ns) in
            [("exchange_ns", head.exchange_ns), ("ingest_ns", head.ingest_ns), ("transact_ns", head.transact_ns)]
        {
            if ns != 0 {
                value.insert(name.to_owned(), ns.into());
            }
        }
    }
    value
}

const fn maker(source: SnapshotSource) -> &'static str {
    match source {
        SnapshotSource::Venue => "venue",
        SnapshotSource::Refinery => "refinery",
    }
}

fn orders(orders: &[BookOrder], head: &Head) -> Value {
    orders
        .iter()
        .map(|order| {
            let (price, qty) = (head.price.decimal(order.price()), head.qty.decimal(order.qty()));
            json!([order.order_id(), price.to_string(), qty.to_string()])
        })
        .collect()
}

fn levels(levels: &[Level], head: &Head) -> Value {
    levels
        .iter()
        .map(|level| json!([head.price.decimal(level.price()).to_string(), head.qty.decimal(level.qty()).to_string()]))
        .collect()
}
