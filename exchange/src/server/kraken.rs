//! What a client of Kraken's WebSocket v2 says: subscribe, unsubscribe, ping.

use serde_json::Value;

use super::Shared;
use crate::faults::{Ending, Occasion, What};
use crate::floor::SessionId;
use crate::wire::kraken::{DEPTHS, time};

/// What a connection hears first.
pub(super) const GREETING: &str = "{\"channel\":\"status\",\"type\":\"update\",\"data\":[{\"version\":\"2.0.0\",\
                                   \"system\":\"online\",\"api_version\":\"v2\",\"connection_id\":1}]}";

/// Does what a client says. `Err` ends the connection.
pub(super) fn command(text: &str, id: SessionId, shared: &Shared) -> Result<(), Option<Ending>> {
    let now = time(shared.now_ms());
    let mut floor = shared.floor();
    let request = serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let number = match &request["req_id"] {
        number @ Value::Number(_) => format!("\"req_id\":{number},"),
        _ => String::new(),
    };
    let times = format!("\"time_in\":\"{now}\",\"time_out\":\"{now}\"");
    let method = request["method"].as_str().unwrap_or_default();
    let wanted = match method {
        "ping" => {
            floor.tell(id, format!("{{\"method\":\"pong\",{number}{times}}}"));
            return Ok(());
        }
        "subscribe" => true,
        "unsubscribe" => false,
        _ => {
            floor.tell(id, format!("{{\"error\":\"Unsupported method\",{number}\"success\":false,{times}}}"));
            return Ok(());
        }
    };
    for what in floor.faults.fire(Occasion::Subscribe, "") {
        if let What::CloseAt(ending) = what {
            return Err(Some(ending));
        }
    }
    let params = &request["params"];
    let refuse =
        |why: &str| format!("{{\"error\":\"{why}\",\"method\":\"{method}\",{number}\"success\":false,{times}}}");
    let depth = match params["channel"].as_str() {
        Some("trade") => None,
        Some("book") => {
            let depth = params["depth"].as_u64().unwrap_or(10);
            match DEPTHS.into_iter().find(|known| u64::from(*known) == depth) {
                Some(depth) => Some(depth),
                None => {
                    floor.tell(id, refuse("Depth not supported"));
                    return Ok(());
                }
            }
        }
        _ => {
            floor.tell(id, refuse("Channel not supported"));
            return Ok(());
        }
    };
    for symbol in params["symbol"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let Some(market) = floor.find(symbol) else {
            // The client's own text goes back to it only as JSON.
            floor.tell(id, refuse("Currency pair not supported"));
            continue;
        };
        let name = floor.symbol(market).name.clone();
        let channel = depth.map_or_else(
            || "\"channel\":\"trade\"".to_owned(),
            |depth| format!("\"channel\":\"book\",\"depth\":{depth}"),
        );
        floor.tell(
            id,
            format!(
                "{{\"method\":\"{method}\",{number}\"result\":{{{channel},\"snapshot\":true,\"symbol\":\"{name}\"}},\
                 \"success\":true,{times}}}"
            ),
        );
        if wanted {
            floor.subscribe_kraken(id, market, depth);
        } else {
            floor.unsubscribe_kraken(id, market, depth);
        }
    }
    Ok(())
}
