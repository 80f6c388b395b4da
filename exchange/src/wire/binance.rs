//! Binance's words: spot, USD-M and COIN-M.
//!
//! What futures say and spot does not: the match time `T` beside the event time `E`, the event before, `pu`, and, for
//! COIN-M, the pair. What spot says and futures do not: `M` in a trade. A spot ticker and a spot snapshot carry no time.

use std::fmt::Write as _;

use crate::market::{Depth, Symbol, Ticker, Trade};
use crate::matching::{Side, Terms};
use crate::orders::{Order, Status};
use crate::snapshot::{Level, Snapshot, Writing, push_levels};
use crate::venue::Venue;

/// What is needed to write about a symbol.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// Whose.
    pub venue: Venue,
    /// About what.
    pub symbol: &'a Symbol,
    /// Now, in ms since 1970.
    pub now_ms: u64,
}

/// What an answer says when a request cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The status of the answer.
    pub status: u16,
    /// Binance's number.
    pub code: i32,
    /// Binance's sentence.
    pub msg: &'static str,
}

impl Complaint {
    /// One with status 400.
    #[must_use]
    pub const fn bad(code: i32, msg: &'static str) -> Self {
        Self { status: 400, code, msg }
    }

    /// The body of the answer.
    #[must_use]
    pub fn json(self) -> String {
        format!("{{\"code\":{},\"msg\":\"{}\"}}", self.code, self.msg)
    }
}

impl Words<'_> {
    const fn writing(&self) -> Writing {
        Writing::new(self.venue, self.symbol)
    }

    const fn futures(&self) -> bool {
        matches!(self.venue, Venue::BinanceUsdm | Venue::BinanceCoinm)
    }

    /// COIN-M calls the underlying of `BTCUSD_PERP` its pair, `BTCUSD`.
    fn pair(&self) -> Option<&str> {
        let coinm = self.venue == Venue::BinanceCoinm;
        coinm.then(|| self.symbol.name.split_once('_').map_or(self.symbol.name.as_str(), |(pair, _)| pair))
    }

    /// A depth event.
    #[must_use]
    pub fn depth(&self, depth: &Depth) -> String {
        let (now, name, writing) = (self.now_ms, &self.symbol.name, self.writing());
        let mut out = format!("{{\"e\":\"depthUpdate\",\"E\":{now},");
        if self.futures() {
            let _ = write!(out, "\"T\":{now},");
        }
        let _ = write!(out, "\"s\":\"{name}\",");
        if let Some(pair) = self.pair() {
            let _ = write!(out, "\"ps\":\"{pair}\",");
        }
        let _ = write!(out, "\"U\":{},\"u\":{},", depth.first, depth.last);
        if self.futures() {
            let _ = write!(out, "\"pu\":{},", depth.before);
        }
        let text = |levels: &[(u64, u64)]| levels.iter().map(|level| writing.level(*level)).collect::<Vec<Level>>();
        let mut bids = text(&depth.bids);
        if self.futures() {
            // Theirs run upwards.
            bids.reverse();
        }
        out.push_str("\"b\":");
        push_levels(&mut out, &bids);
        out.push_str(",\"a\":");
        push_levels(&mut out, &text(&depth.asks));
        out.push('}');
        out
    }

    /// A trade.
    #[must_use]
    pub fn trade(&self, trade: &Trade) -> String {
        let (now, name, writing) = (self.now_ms, &self.symbol.name, self.writing());
        let (price, qty) = (writing.price(trade.ticks), writing.qty(trade.lots));
        let mut out = format!(
            "{{\"e\":\"trade\",\"E\":{now},\"T\":{now},\"s\":\"{name}\",\"t\":{},\"p\":\"{price}\",\"q\":\"{qty}\",",
            trade.id
        );
        // The buyer is the maker when the seller came.
        let maker_buys = trade.taker_side == Side::Sell;
        let _ = if self.futures() {
            write!(out, "\"X\":\"MARKET\",\"m\":{maker_buys}}}")
        } else {
            write!(out, "\"m\":{maker_buys},\"M\":true}}")
        };
        out
    }

    /// The best of both sides.
    #[must_use]
    pub fn ticker(&self, ticker: &Ticker) -> String {
        let (now, name, writing) = (self.now_ms, &self.symbol.name, self.writing());
        let mut out = String::from("{");
        if self.futures() {
            out.push_str("\"e\":\"bookTicker\",");
        }
        let _ = write!(out, "\"u\":{},\"s\":\"{name}\",", ticker.update_id);
        if let Some(pair) = self.pair() {
            let _ = write!(out, "\"ps\":\"{pair}\",");
        }
        let (bid, bid_qty) = writing.level(ticker.bid);
        let (ask, ask_qty) = writing.level(ticker.ask);
        let _ = write!(out, "\"b\":\"{bid}\",\"B\":\"{bid_qty}\",\"a\":\"{ask}\",\"A\":\"{ask_qty}\"");
        if self.futures() {
            let _ = write!(out, ",\"T\":{now},\"E\":{now}");
        }
        out.push('}');
        out
    }

    /// The answer to a request for a book.
    #[must_use]
    pub fn snapshot(&self, book: &Snapshot) -> String {
        let (now, name) = (self.now_ms, &self.symbol.name);
        let mut out = format!("{{\"lastUpdateId\":{},", book.last_update_id);
        if self.futures() {
            let _ = write!(out, "\"E\":{now},\"T\":{now},");
        }
        if let Some(pair) = self.pair() {
            let _ = write!(out, "\"symbol\":\"{name}\",\"pair\":\"{pair}\",");
        }
        out.push_str("\"bids\":");
        push_levels(&mut out, &book.bids);
        out.push_str(",\"asks\":");
        push_levels(&mut out, &book.asks);
        out.push('}');
        out
    }

    /// An order, with its executions.
    #[must_use]
    pub fn order(&self, order: &Order) -> String {
        let writing = self.writing();
        let (kind, in_force) = match order.terms {
            Terms::Limit(_) => ("LIMIT", "GTC"),
            Terms::ImmediateOrCancel(_) => ("LIMIT", "IOC"),
            Terms::FillOrKill(_) => ("LIMIT", "FOK"),
            Terms::MakerOnly(_) => ("LIMIT_MAKER", "GTC"),
            Terms::Market => ("MARKET", "GTC"),
        };
        let mut out = format!(
            "{{\"symbol\":\"{}\",\"orderId\":{},\"orderListId\":-1,\"clientOrderId\":\"{}\",\"transactTime\":{},\
             \"price\":\"{}\",\"origQty\":\"{}\",\"executedQty\":\"{}\",\"cummulativeQuoteQty\":\"{}\",\
             \"status\":\"{}\",\"timeInForce\":\"{in_force}\",\"type\":\"{kind}\",\"side\":\"{}\",\"time\":{},\
             \"updateTime\":{},\"isWorking\":{},\"fills\":[",
            self.symbol.name,
            order.id.0,
            order.client_id,
            order.changed_ms,
            writing.price(order.terms.limit().unwrap_or(0)),
            writing.qty(order.lots),
            writing.qty(order.executed()),
            writing.quote(order.quote()),
            order.status.name(),
            match order.side {
                Side::Buy => "BUY",
                Side::Sell => "SELL",
            },
            order.placed_ms,
            order.changed_ms,
            matches!(order.status, Status::New | Status::PartiallyFilled),
        );
        for (at, execution) in order.executions.iter().enumerate() {
            let _ = write!(
                out,
                "{}{{\"price\":\"{}\",\"qty\":\"{}\",\"commission\":\"0\",\"commissionAsset\":\"\",\"tradeId\":{},\
                 \"maker\":{}}}",
                if at == 0 { "" } else { "," },
                writing.price(execution.ticks),
                writing.qty(execution.lots),
                execution.trade,
                execution.maker,
            );
        }
        out.push_str("]}");
        out
    }

    /// What there is to know about the symbol.
    #[must_use]
    pub fn rules(&self) -> String {
        let writing = self.writing();
        let name = &self.symbol.name;
        let quotes = ["USDT", "USDC", "FDUSD", "USD", "EUR", "BTC", "ETH"];
        let plain: String = self.pair().unwrap_or(name).chars().filter(|c| *c != '/').collect();
        let quote = quotes.into_iter().find(|quote| plain.ends_with(quote) && plain.len() > quote.len()).unwrap_or("");
        let base = &plain[..plain.len() - quote.len()];
        let max = crate::decimal::UNITS_MAX;
        format!(
            "{{\"symbol\":\"{name}\",\"status\":\"TRADING\",\"baseAsset\":\"{base}\",\"quoteAsset\":\"{quote}\",\
             \"orderTypes\":[\"LIMIT\",\"LIMIT_MAKER\",\"MARKET\"],\"filters\":[\
             {{\"filterType\":\"PRICE_FILTER\",\"minPrice\":\"{tick}\",\"maxPrice\":\"{}\",\"tickSize\":\"{tick}\"}},\
             {{\"filterType\":\"LOT_SIZE\",\"minQty\":\"{lot}\",\"maxQty\":\"{}\",\"stepSize\":\"{lot}\"}}]}}",
            writing.price(max),
            writing.qty(max),
            tick = writing.price(1),
            lot = writing.qty(1),
        )
    }
}
