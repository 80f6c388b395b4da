//! HTTP: the venue's REST interface, the tests' own under `/local/`, and the way to a WebSocket.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::session::{Opening, limits, serve};
use super::weight::TooMuch;
use super::{Shared, garbage, orders};
use crate::faults::{Ending, Fault, Occasion, What};
use crate::floor::Floor;
use crate::matching::OrderId;
use crate::query::Query;
use crate::snapshot::{Snapshot, push_levels};
use crate::venue::Venue;
use crate::wire::binance::Complaint;

/// Largest body that is read.
const BODY_LEN_MAX: usize = 16 << 10;
/// Most orders in one answer to an auditor.
const ORDERS_PAGE: usize = 10_000;
/// A request waits so long, so often, for a recording to come to its book.
const SNAPSHOT_POLL: Duration = Duration::from_millis(10);
const SNAPSHOT_POLLS: u32 = 1_000;

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// All of it.
    Whole(Option<Bytes>),
    /// The first half of what the head promises; then the connection ends.
    Half { first: Option<Bytes>, promised: u64 },
}

/// Ends the connection without an answer, or in the middle of one.
#[derive(Debug)]
pub(super) struct Abandon;

impl fmt::Display for Abandon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("abandoned on request")
    }
}

impl std::error::Error for Abandon {}

impl Body for Answer {
    type Data = Bytes;
    type Error = Abandon;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abandon>>> {
        Poll::Ready(match &mut *self {
            Self::Whole(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Self::Half { first, .. } => Some(first.take().map(Frame::data).ok_or(Abandon)),
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Half { promised, .. } => *promised,
        })
    }
}

fn json(status: u16, text: String) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(text.into())));
    // The numbers are ours and checked where they come from outside.
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json;charset=UTF-8"));
    response
}

fn complain(complaint: Complaint) -> Response<Answer> {
    json(complaint.status, complaint.json())
}

/// A `/local/` answer to what is not understood.
fn puzzled(status: u16, why: &str) -> Response<Answer> {
    json(status, format!("{{\"error\":{}}}", serde_json::Value::from(why)))
}

const NO_SYMBOL: Complaint =
    Complaint::bad(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.");
const UNKNOWN_SYMBOL: Complaint = Complaint::bad(-1121, "Invalid symbol.");

/// What a handler needs.
pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    pub(super) query: &'a Query,
    reset: &'a AtomicBool,
}

impl Call<'_> {
    /// Does what goes wrong at this step, if anything that concerns all steps alike.
    fn misbehave(&self, what: &[What]) -> Result<Option<Response<Answer>>, Abandon> {
        for what in what {
            match what {
                What::CloseAt(ending) => {
                    // ORDERING: Relaxed: read by the same task when this connection has ended.
                    self.reset.store(*ending == Ending::Reset, Ordering::Relaxed);
                    return Err(Abandon);
                }
                What::Status(status) => {
                    let complaint = Complaint { status: *status, code: -1003, msg: "Misbehaving as asked." };
                    let mut response = complain(complaint);
                    if matches!(status, 418 | 429) {
                        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                    }
                    return Ok(Some(response));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    pub(super) fn fire(&self, occasion: Occasion, symbol: &str) -> Vec<What> {
        self.shared.floor().faults.fire(occasion, symbol)
    }

    /// The market that the request names.
    pub(super) fn market(&self, floor: &Floor) -> Result<usize, Complaint> {
        let symbol = self.query.get("symbol").ok_or(NO_SYMBOL)?;
        floor.find(symbol).ok_or(UNKNOWN_SYMBOL)
    }
}

/// Answers a request, or agrees to a WebSocket.
pub(super) async fn answer(
    mut request: Request<Incoming>,
    shared: Arc<Shared>,
    permit: Arc<OwnedSemaphorePermit>,
    reset: Arc<AtomicBool>,
) -> Result<Response<Answer>, Abandon> {
    let nothing = Query::default();
    let call = Call { shared: &shared, query: &nothing, reset: &reset };
    if let Some(response) = call.misbehave(&call.fire(Occasion::Request, ""))? {
        return Ok(response);
    }
    if request.headers().contains_key(hyper::header::UPGRADE) {
        call.misbehave(&call.fire(Occasion::Upgrade, ""))?;
        return Ok(upgrade(&mut request, Arc::clone(&shared), permit));
    }
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_LEN_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Ok(puzzled(413, "the body is larger than 16 KiB, or it broke off")),
    };
    let query = Query::new(head.uri.query().unwrap_or_default(), &String::from_utf8_lossy(&body));
    let call = Call { query: &query, ..call };
    let path = head.uri.path();
    if let Some(command) = path.strip_prefix("/local/") {
        return Ok(local(&call, &head.method, command));
    }
    let rest = shared.config.venue.rest();
    let Some(command) = path.strip_prefix(rest) else {
        return Ok(puzzled(404, &format!("no such path: this exchange serves {rest}, /local/, /ws and /stream")));
    };
    if let Some(refusal) = weigh(&call, command) {
        return Ok(refusal);
    }
    match (&head.method, command) {
        (&Method::GET, "ping") => Ok(json(200, "{}".to_owned())),
        (&Method::GET, "time") => Ok(json(200, format!("{{\"serverTime\":{}}}", shared.now_ms()))),
        (&Method::GET, "exchangeInfo") => Ok(json(200, rules(&call))),
        (&Method::GET, "depth") => depth(&call).await,
        (&Method::POST, "order") => new_order(&call),
        (&Method::GET | &Method::DELETE, "order") => Ok(order(&call, head.method == Method::DELETE)),
        _ => Ok(puzzled(404, "no such endpoint")),
    }
}

/// What a request costs; its refusal if that is more than is left.
fn weigh(call: &Call<'_>, command: &str) -> Option<Response<Answer>> {
    let weight = match command {
        "order" => return None,
        "depth" => match call.query.get("limit").and_then(|limit| limit.parse::<u32>().ok()).unwrap_or(100) {
            ..=100 => 5,
            101..=500 => 25,
            501..=1_000 => 50,
            _ => 250,
        },
        "exchangeInfo" => 20,
        _ => 1,
    };
    let now = call.shared.now_ms();
    let mut weights = call.shared.weights.lock().unwrap_or_else(PoisonError::into_inner);
    let TooMuch { status, retry_after_s } = weights.take(weight, call.shared.config.weight_max, now).err()?;
    let msg = "Too much request weight used; wait for as many seconds as Retry-After says.";
    let mut response = complain(Complaint { status, code: -1003, msg });
    response.headers_mut().insert(RETRY_AFTER, retry_after_s.into());
    Some(response)
}

fn rules(call: &Call<'_>) -> String {
    let (floor, now) = (call.shared.floor(), call.shared.now_ms());
    let symbols: Vec<String> = (0..floor.market_count()).map(|market| floor.words(market, now).rules()).collect();
    let (symbols, weight_max) = (symbols.join(","), call.shared.config.weight_max);
    format!(
        "{{\"timezone\":\"UTC\",\"serverTime\":{now},\"rateLimits\":[{{\"rateLimitType\":\"REQUEST_WEIGHT\",\"interval\":\"MINUTE\",\"intervalNum\":1,\"limit\":{weight_max}}}],\"exchangeFilters\":[],\"symbols\":[{symbols}]}}"
    )
}

/// `GET depth`: a book.
async fn depth(call: &Call<'_>) -> Result<Response<Answer>, Abandon> {
    let limit = match call.query.get("limit").map_or(Ok(100), str::parse::<usize>) {
        Ok(limit @ 1..) => limit.min(5_000),
        _ => return Ok(complain(Complaint::bad(-1130, "Data sent for parameter 'limit' is not valid."))),
    };
    let (market, symbol) = {
        let floor = call.shared.floor();
        match call.market(&floor) {
            Ok(market) => (market, floor.symbol(market).name.clone()),
            Err(complaint) => return Ok(complain(complaint)),
        }
    };
    for _ in 0..SNAPSHOT_POLLS {
        if call.shared.floor().ready(market) {
            break;
        }
        tokio::time::sleep(SNAPSHOT_POLL).await;
    }
    if !call.shared.floor().ready(market) {
        return Ok(complain(Complaint { status: 503, code: -1001, msg: "The recording has no book yet." }));
    }
    let what = call.fire(Occasion::Snapshot, &symbol);
    for what in &what {
        if let What::SnapshotDelay(time) = what {
            tokio::time::sleep(*time).await;
        }
    }
    if let Some(response) = call.misbehave(&what)? {
        return Ok(response);
    }
    let text = {
        let floor = call.shared.floor();
        let stale = what.contains(&What::SnapshotStale).then(|| floor.stale_book(market).cloned()).flatten();
        let book = stale.map_or_else(|| floor.book(market, limit), |book| book.cut(limit));
        floor.words(market, call.shared.now_ms()).snapshot(&book)
    };
    for what in what {
        match what {
            What::CloseInSnapshot => {
                let promised = text.len() as u64;
                let first = Bytes::from(text).slice(..promised as usize / 2);
                let mut response = json(200, String::new());
                *response.body_mut() = Answer::Half { first: Some(first), promised };
                return Ok(response);
            }
            What::SnapshotGarbage => return Ok(json(200, text[..text.len() / 2].to_owned())),
            What::SnapshotBomb(bytes) => {
                let mut response = json(200, String::new());
                response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                *response.body_mut() = Answer::Whole(Some(garbage::gzip_bomb(bytes).into()));
                return Ok(response);
            }
            _ => {}
        }
    }
    Ok(json(200, text))
}

/// `POST order`: an order.
fn new_order(call: &Call<'_>) -> Result<Response<Answer>, Abandon> {
    let now = call.shared.now_ms();
    let mut floor = call.shared.floor();
    let parsed = call.market(&floor).and_then(|market| orders::parse(call.query, &floor, market));
    let new = match parsed {
        Ok(new) => new,
        Err(complaint) => return Ok(complain(complaint)),
    };
    let symbol = floor.symbol(new.market).name.clone();
    if let Some(response) = call.misbehave(&floor.faults.fire(Occasion::Order, &symbol))? {
        return Ok(response);
    }
    let response = match floor.place(new, now) {
        Ok(text) => json(200, text),
        Err(why) => complain(orders::refusal(why)),
    };
    // From here on the order is taken, whatever the client gets to hear of it.
    Ok(call.misbehave(&floor.faults.fire(Occasion::Answer, &symbol))?.unwrap_or(response))
}

/// `GET order` and `DELETE order`: how it stands, or take it back.
fn order(call: &Call<'_>, cancel: bool) -> Response<Answer> {
    let now = call.shared.now_ms();
    let mut floor = call.shared.floor();
    let market = match call.market(&floor) {
        Ok(market) => market,
        Err(complaint) => return complain(complaint),
    };
    let found = match (call.query.get("orderId").map(str::parse), call.query.get("origClientOrderId")) {
        (Some(Ok(id)), _) => floor.orders().by_id(market, OrderId(id)),
        (None, Some(name)) => floor.orders().by_client_id(name).filter(|order| order.market == market),
        (Some(Err(_)), _) => {
            return complain(Complaint::bad(-1100, "Illegal characters found in parameter 'orderId'."));
        }
        (None, None) => {
            return complain(Complaint::bad(-1102, "Param 'origClientOrderId' or 'orderId' must be sent."));
        }
    };
    match (found.map(|order| order.id), cancel) {
        (None, false) => complain(Complaint::bad(-2013, "Order does not exist.")),
        (None, true) => complain(Complaint::bad(-2011, "Unknown order sent.")),
        (Some(id), true) => match floor.cancel(market, id, now) {
            Some(text) => json(200, text),
            None => complain(Complaint::bad(-2011, "Unknown order sent.")),
        },
        (Some(id), false) => {
            let text = floor.orders().by_id(market, id).map(|order| floor.words(market, now).order(order));
            json(200, text.unwrap_or_default())
        }
    }
}

/// `GET /local/orders?after=N&limit=M`: what clients ordered, in order of arrival, from the N-th on.
fn all_orders(call: &Call<'_>, floor: &Floor, now: u64) -> Response<Answer> {
    let number = |name, default: usize| call.query.get(name).map_or(Some(default), |text| text.parse().ok());
    let (Some(after), Some(limit)) = (number("after", 0), number("limit", ORDERS_PAGE)) else {
        return puzzled(400, "`after` or `limit` is not a number");
    };
    let all = floor.orders().all();
    let page = all.iter().skip(after).take(limit.min(ORDERS_PAGE));
    let orders: Vec<String> = page.map(|order| floor.words(order.market, now).order(order)).collect();
    json(200, format!("{{\"count\":{},\"after\":{after},\"orders\":[{}]}}", all.len(), orders.join(",")))
}

/// `/local/..`: what no venue offers, for those who test.
fn local(call: &Call<'_>, method: &Method, command: &str) -> Response<Answer> {
    let now = call.shared.now_ms();
    let mut floor = call.shared.floor();
    match (method.as_str(), command) {
        ("GET", "status") => json(200, floor.status()),
        ("GET", "orders") => all_orders(call, &floor, now),
        ("GET", "book") => match call.market(&floor) {
            Ok(market) => kept_book(call, &floor, market),
            Err(complaint) => complain(complaint),
        },
        ("POST", "mark") => {
            let markets = match (call.query.get("symbol"), call.market(&floor)) {
                (None, _) => (0..floor.market_count()).collect(),
                (_, Ok(market)) => vec![market],
                (_, Err(complaint)) => return complain(complaint),
            };
            let marks: Vec<String> = markets
                .into_iter()
                .map(|market| {
                    let id = floor.mark(market, now);
                    format!("{{\"symbol\":\"{}\",\"last_update_id\":{id}}}", floor.symbol(market).name)
                })
                .collect();
            json(200, format!("[{}]", marks.join(",")))
        }
        ("GET", "mark") => match call.market(&floor) {
            Ok(market) => {
                let ids: Vec<String> = floor.marks(market).map(|id| id.to_string()).collect();
                json(200, format!("[{}]", ids.join(",")))
            }
            Err(complaint) => complain(complaint),
        },
        ("POST", "misbehave") => match Fault::parse(call.query).and_then(|fault| floor.misbehave(fault)) {
            Ok(id) => json(200, format!("{{\"armed\":{id}}}")),
            Err(error) => puzzled(400, &error.to_string()),
        },
        ("GET", "misbehave") => json(200, floor.faults.json()),
        ("DELETE", "misbehave") => {
            floor.faults.clear();
            json(200, "{}".to_owned())
        }
        ("POST", "pause") => {
            floor.pause(now);
            json(200, floor.status())
        }
        ("POST", "resume") => {
            floor.resume();
            json(200, floor.status())
        }
        _ => puzzled(
            404,
            "no such thing: GET status, book, mark, orders, misbehave; POST mark, misbehave, pause, resume; DELETE misbehave",
        ),
    }
}

/// `GET /local/book`: all of a book, now or at a kept update.
fn kept_book(call: &Call<'_>, floor: &Floor, market: usize) -> Response<Answer> {
    let name = &floor.symbol(market).name;
    let text = |book: &Snapshot| {
        let mut out = format!("{{\"symbol\":\"{name}\",\"last_update_id\":{},\"bids\":", book.last_update_id);
        push_levels(&mut out, &book.bids);
        out.push_str(",\"asks\":");
        push_levels(&mut out, &book.asks);
        out.push('}');
        out
    };
    match call.query.get("at").map(str::parse) {
        None => json(200, text(&floor.book(market, usize::MAX))),
        Some(Ok(id)) => match floor.marked(market, id) {
            Some(book) => json(200, text(&book)),
            None => puzzled(404, &format!("the book of {name} was not kept at {id}; POST /local/mark keeps it")),
        },
        Some(Err(_)) => puzzled(400, "`at` is not an update id"),
    }
}

/// Agrees to a WebSocket and serves it when the answer has left.
fn upgrade(
    request: &mut Request<Incoming>,
    shared: Arc<Shared>,
    permit: Arc<OwnedSemaphorePermit>,
) -> Response<Answer> {
    let query = Query::new(request.uri().query().unwrap_or_default(), "");
    let opening = match request.uri().path() {
        "/v2" if shared.config.venue == Venue::Kraken => Opening { combined: false, streams: Vec::new() },
        _ if shared.config.venue == Venue::Kraken => return puzzled(404, "no WebSocket here: Kraken has /v2"),
        "/stream" => {
            let streams = query.get("streams").unwrap_or_default().split('/');
            Opening { combined: true, streams: streams.filter(|name| !name.is_empty()).map(str::to_owned).collect() }
        }
        path => match path.strip_prefix("/ws") {
            Some(streams) if streams.is_empty() || streams.starts_with('/') => {
                let streams = streams.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                Opening { combined: false, streams }
            }
            _ => return puzzled(404, "no WebSocket here: Binance has /ws and /stream, Kraken /v2"),
        },
    };
    let response = match create_response_with_body(request, || Answer::Whole(None)) {
        Ok(response) => response,
        Err(error) => return puzzled(400, &format!("no WebSocket handshake: {error}")),
    };
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        // The client may have gone before the answer arrived.
        let Ok(upgraded) = upgraded.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
        let stream = parts.io.into_inner();
        let socket =
            WebSocketStream::from_partially_read(stream, parts.read_buf.into(), Role::Server, Some(limits())).await;
        serve(socket, opening, &shared).await;
        drop(permit);
    });
    response
}
