//! Order entry: Binance's words into an order, and refusals into its numbers.

use crate::decimal::{self, NotUnits};
use crate::floor::Floor;
use crate::matching::{Refused, Side, Terms};
use crate::query::Query;
use crate::simulation::{NewOrder, OrderRefused};
use crate::wire::binance::Complaint;

const CLIENT_ID_LEN_MAX: usize = 36;

const fn mandatory(msg: &'static str) -> Complaint {
    Complaint::bad(-1102, msg)
}

const CLIENT_ID: Complaint = Complaint::bad(
    -1100,
    "Illegal characters found in parameter 'newClientOrderId'; legal range is '^[.A-Z:/a-z0-9_-]{1,36}$'.",
);

/// Reads an order.
pub(super) fn parse(query: &Query, floor: &Floor, market: usize) -> Result<NewOrder, Complaint> {
    let symbol = floor.symbol(market);
    let side = match query.get("side") {
        Some("BUY") => Side::Buy,
        Some("SELL") => Side::Sell,
        None => return Err(mandatory("Mandatory parameter 'side' was not sent, was empty/null, or malformed.")),
        Some(_) => return Err(Complaint::bad(-1117, "Invalid side.")),
    };
    let quantity = query
        .get("quantity")
        .ok_or_else(|| mandatory("Mandatory parameter 'quantity' was not sent, was empty/null, or malformed."))?;
    let lots = decimal::parse(quantity, symbol.qty_decimals).map_err(|why| match why {
        NotUnits::Malformed => Complaint::bad(-1100, "Illegal characters found in parameter 'quantity'."),
        NotUnits::TooFine | NotUnits::TooLarge => Complaint::bad(-1013, "Filter failure: LOT_SIZE"),
    })?;
    let price = || {
        let text = query
            .get("price")
            .ok_or_else(|| mandatory("Mandatory parameter 'price' was not sent, was empty/null, or malformed."))?;
        decimal::parse(text, symbol.price_decimals).map_err(|why| match why {
            NotUnits::Malformed => Complaint::bad(-1100, "Illegal characters found in parameter 'price'."),
            NotUnits::TooFine | NotUnits::TooLarge => Complaint::bad(-1013, "Filter failure: PRICE_FILTER"),
        })
    };
    let terms = match (query.get("type"), query.get("timeInForce")) {
        (Some("MARKET"), _) => Terms::Market,
        (Some("LIMIT_MAKER"), _) => Terms::MakerOnly(price()?),
        (Some("LIMIT"), Some("GTC")) => Terms::Limit(price()?),
        (Some("LIMIT"), Some("IOC")) => Terms::ImmediateOrCancel(price()?),
        (Some("LIMIT"), Some("FOK")) => Terms::FillOrKill(price()?),
        (Some("LIMIT"), Some(_)) => return Err(Complaint::bad(-1115, "Invalid timeInForce.")),
        (Some("LIMIT"), None) => {
            return Err(mandatory("Mandatory parameter 'timeInForce' was not sent, was empty/null, or malformed."));
        }
        (Some(_), _) => return Err(Complaint::bad(-1116, "Invalid orderType.")),
        (None, _) => return Err(mandatory("Mandatory parameter 'type' was not sent, was empty/null, or malformed.")),
    };
    let client_id = query.get("newClientOrderId").unwrap_or_default();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".:/_-".contains(&byte);
    if client_id.len() > CLIENT_ID_LEN_MAX || !client_id.bytes().all(legal) {
        return Err(CLIENT_ID);
    }
    Ok(NewOrder { market, client_id: client_id.to_owned(), side, lots, terms })
}

/// What the venue says when it refuses an order.
pub(super) const fn refusal(why: OrderRefused) -> Complaint {
    match why {
        OrderRefused::Duplicate => Complaint::bad(-2010, "Duplicate order sent."),
        OrderRefused::TooMany => Complaint::bad(-1015, "Too many new orders."),
        OrderRefused::Closed => Complaint::bad(-1013, "Market is closed."),
        OrderRefused::Book(Refused::Nothing) => Complaint::bad(-1013, "Invalid quantity or price: it is 0."),
        OrderRefused::Book(Refused::WouldTake) => Complaint::bad(-2010, "Order would immediately match and take."),
        OrderRefused::Book(Refused::Full) => Complaint::bad(-2010, "Too many orders wait in this book."),
    }
}
