//! One WebSocket connection: carries out what the floor put into its outbox, and hears what the client says.

use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Shared;
use super::garbage;
use crate::faults::{Ending, Occasion, What};
use crate::floor::SessionId;
use crate::outbox::{Inbox, Out, outbox};
use crate::venue::Venue;

/// Largest message that is taken from a client.
const MESSAGE_LEN_MAX: usize = 64 << 10;
/// Most streams of one connection, as Binance has it.
const STREAMS_MAX: usize = 1_024;

/// How often Kraken's heartbeat beats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What is read and written about WebSocket frames.
pub(super) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_LEN_MAX))
        .max_frame_size(Some(MESSAGE_LEN_MAX))
        .read_buffer_size(4 << 10)
        .write_buffer_size(16 << 10)
}

/// How the client asked for its streams.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    /// Messages stand in an envelope.
    pub(super) combined: bool,
    /// Streams that the address names.
    pub(super) streams: Vec<String>,
}

/// Serves a client until it leaves or is cut off.
pub(super) async fn serve(mut socket: WebSocketStream<TcpStream>, opening: Opening, shared: &Shared) {
    let (outbox, mut inbox) = outbox(shared.config.backlog_max);
    let id = shared.floor().join(outbox, opening.combined);
    {
        let mut floor = shared.floor();
        opening.streams.iter().take(STREAMS_MAX).for_each(|name| floor.subscribe(id, name));
        if shared.config.venue == Venue::Kraken {
            floor.tell(id, super::kraken::GREETING.to_owned());
        }
    }
    let ending = run(&mut socket, &mut inbox, id, shared).await;
    shared.floor().leave(id);
    match ending {
        Some(Ending::Close(code)) => {
            let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
            // The client has a moment to take its leave; it may also be gone.
            let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(Some(frame))).await;
        }
        Some(Ending::Reset) => {
            // If that fails the connection ends in order, which a client must survive as well.
            let _ = socket.get_ref().set_zero_linger();
        }
        Some(Ending::Silent) | None => {}
    }
}

/// Returns how the connection is to end; none if the client has ended it.
async fn run(
    socket: &mut WebSocketStream<TcpStream>,
    inbox: &mut Inbox,
    id: SessionId,
    shared: &Shared,
) -> Option<Ending> {
    let cut = inbox.cut();
    tokio::pin!(cut);
    let config = &shared.config;
    let mut pings = interval_at(Instant::now() + config.ping_every, config.ping_every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Kraken says every second that it is there, to who follows anything.
    let mut heartbeats = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = sleep(config.session_max);
    tokio::pin!(end);
    let mut unanswered = 0;
    let mut heard = Heard { since: Instant::now(), count: 0 };
    loop {
        let turn = tokio::select! {
            () = &mut cut => return Some(Ending::Reset),
            () = &mut end => return Some(Ending::Close(1_001)),
            out = inbox.next() => Turn::Out(out?),
            _ = pings.tick() => Turn::Ping,
            _ = heartbeats.tick(), if config.venue == Venue::Kraken => Turn::Heartbeat,
            message = socket.next() => Turn::Heard(message),
        };
        let work = async {
            match turn {
                Turn::Out(Out::Text(text)) => socket.send(Message::Text(text)).await.map_err(gone),
                Turn::Out(Out::Fault(what)) => misbehave(socket, what).await,
                Turn::Heartbeat => {
                    shared.floor().beat(id);
                    Ok(())
                }
                Turn::Ping if unanswered >= 3 => Err(Some(Ending::Close(1_008))),
                Turn::Ping => {
                    unanswered += 1;
                    socket.send(Message::Ping(shared.now_ms().to_string().into())).await.map_err(gone)
                }
                Turn::Heard(None) => Err(None),
                Turn::Heard(Some(Err(Error::Capacity(_)))) => Err(Some(Ending::Close(1_009))),
                Turn::Heard(Some(Err(Error::Utf8(_)))) => Err(Some(Ending::Close(1_007))),
                Turn::Heard(Some(Err(Error::Protocol(_)))) => Err(Some(Ending::Close(1_002))),
                Turn::Heard(Some(Err(_))) => Err(None),
                Turn::Heard(Some(Ok(_))) if heard.too_often(config.messages_per_second) => {
                    Err(Some(Ending::Close(1_008)))
                }
                Turn::Heard(Some(Ok(message))) => {
                    if message.is_pong() {
                        unanswered = 0;
                    }
                    if let Message::Text(text) = &message {
                        command(text, id, shared)?;
                    }
                    // A ping's answer waits in the socket.
                    socket.flush().await.map_err(gone)
                }
            }
        };
        // A client that does not read stops us here, until too much waits for it.
        let outcome = tokio::select! {
            () = &mut cut => return Some(Ending::Reset),
            outcome = work => outcome,
        };
        if let Err(ending) = outcome {
            return ending;
        }
    }
}

enum Turn {
    Out(Out),
    Ping,
    Heartbeat,
    Heard(Option<Result<Message, Error>>),
}

fn gone(_: Error) -> Option<Ending> {
    None
}

/// How often a client speaks.
struct Heard {
    since: Instant,
    count: u32,
}

impl Heard {
    fn too_often(&mut self, max: u32) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Self { since: Instant::now(), count: 0 };
        }
        self.count += 1;
        self.count > max
    }
}

/// Carries out a fault on the socket. `Err` ends the connection.
async fn misbehave(socket: &mut WebSocketStream<TcpStream>, what: What) -> Result<(), Option<Ending>> {
    let io = |_: io::Error| None;
    match what {
        What::Delay(time) => sleep(time).await,
        What::Drop(ending) => {
            socket.flush().await.map_err(gone)?;
            return Err(Some(ending));
        }
        What::Garbage(kind) => match garbage::message(kind) {
            Ok(message) => socket.send(message).await.map_err(gone)?,
            Err(bytes) => {
                // These are no frame, so they go past the frames' writer.
                socket.flush().await.map_err(gone)?;
                socket.get_mut().write_all(&bytes).await.map_err(io)?;
            }
        },
        What::Oversize(bytes) => socket.send(garbage::long_text(bytes)).await.map_err(gone)?,
        What::Bomb(bytes) => socket.send(garbage::bomb(bytes)).await.map_err(gone)?,
        // The others concern other occasions, or were carried out before.
        _ => {}
    }
    Ok(())
}

/// Does what a client says. `Err` ends the connection.
fn command(text: &str, id: SessionId, shared: &Shared) -> Result<(), Option<Ending>> {
    if shared.config.venue == Venue::Kraken {
        return super::kraken::command(text, id, shared);
    }
    let mut floor = shared.floor();
    let complain = |id: &Value, code, msg| format!("{{\"error\":{{\"code\":{code},\"msg\":\"{msg}\"}},\"id\":{id}}}");
    let Ok(request) = serde_json::from_str::<Value>(text) else {
        floor.tell(id, complain(&Value::Null, 3, "Invalid JSON: the text is none"));
        return Ok(());
    };
    let number = match &request["id"] {
        number @ (Value::Number(_) | Value::String(_) | Value::Null) => number.clone(),
        _ => Value::Null,
    };
    let names: Vec<&str> = request["params"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let answer = match request["method"].as_str() {
        Some("SUBSCRIBE") => {
            for what in floor.faults.fire(Occasion::Subscribe, "") {
                if let What::CloseAt(ending) = what {
                    return Err(Some(ending));
                }
            }
            if floor.subscribed(id).len() + names.len() > STREAMS_MAX {
                complain(&number, 2, "Invalid request: too many streams")
            } else {
                names.iter().for_each(|name| floor.subscribe(id, name));
                format!("{{\"result\":null,\"id\":{number}}}")
            }
        }
        Some("UNSUBSCRIBE") => {
            names.iter().for_each(|name| floor.unsubscribe(id, name));
            format!("{{\"result\":null,\"id\":{number}}}")
        }
        Some("LIST_SUBSCRIPTIONS") => {
            let names: Vec<String> = floor.subscribed(id).into_iter().map(|name| format!("\"{name}\"")).collect();
            format!("{{\"result\":[{}],\"id\":{number}}}", names.join(","))
        }
        Some(_) => complain(&number, 2, "Invalid request: unknown method"),
        None => complain(&number, 2, "Invalid request: no method"),
    };
    floor.tell(id, answer);
    Ok(())
}
