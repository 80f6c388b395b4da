//! One WebSocket connection: messages in, a few short texts out, and how it ended.
//!
//! No extension is offered, permessage-deflate least of all: a frame that claims to be compressed breaks the protocol and
//! ends the connection, so nothing is ever inflated. A message longer than the limit ends it too, before more than the
//! limit is held in memory. What ends a connection is told in words; what to do about it is for others.
//!
//! Pongs answer pings by themselves. The bytes of a message are shared with the read buffer, not copied.

use std::{
    fmt,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Sink, Stream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Bytes, Error as WsError, Message, Utf8Bytes,
        client::IntoClientRequest,
        http::{HeaderValue, header},
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::dial::{Address, DialError, Dialer, Transport};

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum OpenError {
    Dial(DialError),
    TimedOut {
        after: Duration,
    },
    /// The peer said no, or spoke something else.
    Refused {
        status: u16,
        said: String,
    },
    Handshake(Box<WsError>),
}

impl OpenError {
    /// Trying again will not help until somebody changes something.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_final(),
            Self::Refused { status, .. } => (400..500).contains(status) && ![408, 418, 429].contains(status),
            Self::TimedOut { .. } | Self::Handshake(_) => false,
        }
    }

    /// The venue says: slower.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self, Self::Refused { status: 418 | 429, .. })
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(error) => error.fmt(f),
            Self::TimedOut { after } => write!(f, "WebSocket handshake: no answer for {} s", after.as_secs_f64()),
            Self::Refused { status, said } if said.is_empty() => write!(f, "WebSocket handshake: status {status}"),
            Self::Refused { status, said } => {
                write!(f, "WebSocket handshake: status {status}: {}", said.escape_debug())
            }
            Self::Handshake(error) => write!(f, "WebSocket handshake: {error}"),
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The peer said goodbye, with a code and perhaps a reason.
    Closed { code: Option<u16>, reason: String },
    /// A message longer than the limit.
    TooLong { len: usize, most: usize },
    /// A text that is not UTF-8. The peer broke its word; what it said is not shown to us.
    NotUtf8,
    /// The peer does not keep to the protocol.
    Protocol(String),
    /// The connection is gone.
    Broken(String),
    /// Not a byte for so long, not even for a ping.
    Silent { after: Duration },
    /// Alive, and not a word of what it is there for, while another connection heard some.
    Mute { after: Duration },
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { code: None, .. } => f.write_str("the venue closed it"),
            Self::Closed { code: Some(code), reason } if reason.is_empty() => write!(f, "the venue closed it: {code}"),
            Self::Closed { code: Some(code), reason } => {
                write!(f, "the venue closed it: {code}, {}", reason.escape_debug())
            }
            Self::TooLong { len, most } => write!(f, "a message of {len} bytes: {most} are allowed"),
            Self::NotUtf8 => f.write_str("a text that is not UTF-8"),
            Self::Protocol(why) => write!(f, "the venue broke the WebSocket protocol: {why}"),
            Self::Broken(why) => write!(f, "the connection broke: {why}"),
            Self::Silent { after } => write!(f, "silent for {} s", after.as_secs_f64()),
            Self::Mute { after } => {
                write!(f, "no message for {} s, while the other connection had some", after.as_secs_f64())
            }
        }
    }
}

/// What a peer sent.
#[derive(Debug)]
pub(crate) enum Heard {
    Text(Utf8Bytes),
    /// No venue that is known here sends any; kept as evidence.
    Binary(Bytes),
    /// A ping or a pong: a sign of life.
    Beat,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<Transport>,
    unflushed: bool,
}

impl Socket {
    /// Connects to `path` at `to`.
    pub(crate) async fn open(
        dialer: &Dialer,
        to: &Address,
        path: &str,
        message_len_max: usize,
    ) -> Result<Self, OpenError> {
        let transport = dialer.dial(to).await.map_err(OpenError::Dial)?;
        let scheme = if to.tls { "wss" } else { "ws" };
        let mut request = format!("{scheme}://{}{}{path}", to.authority(), to.prefix)
            .into_client_request()
            .map_err(|error| OpenError::Handshake(Box::new(error)))?;
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_LEN)
            .max_message_size(Some(message_len_max))
            .max_frame_size(Some(message_len_max))
            // Each text goes out at once; a peer that takes none cannot make us hold many.
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_LEN_MAX);
        let after = dialer.timeout();
        let handshake = client_async_with_config(request, transport, Some(config));
        match tokio::time::timeout(after, handshake).await {
            Err(_) => Err(OpenError::TimedOut { after }),
            Ok(Ok((stream, _response))) => Ok(Self { stream, unflushed: false }),
            Ok(Err(WsError::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                let said = String::from_utf8_lossy(&body[..body.len().min(SAID_MAX)]).into_owned();
                Err(OpenError::Refused { status: response.status().as_u16(), said })
            }
            Ok(Err(error)) => Err(OpenError::Handshake(Box::new(error))),
        }
    }

    /// The next message. Also sends on what is still to be sent.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Heard, Ended>> {
        if self.unflushed
            && let Poll::Ready(done) = std::pin::Pin::new(&mut self.stream).poll_flush(cx)
        {
            self.unflushed = false;
            if let Err(error) = done {
                return Poll::Ready(Err(ended(error)));
            }
        }
        let heard = match ready!(std::pin::Pin::new(&mut self.stream).poll_next(cx)) {
            None => Err(Ended::Closed { code: None, reason: String::new() }),
            Some(Err(error)) => Err(ended(error)),
            Some(Ok(Message::Text(text))) => Ok(Heard::Text(text)),
            Some(Ok(Message::Binary(bytes))) => Ok(Heard::Binary(bytes)),
            Some(Ok(Message::Ping(_))) => {
                // The pong lies ready and must go out, whether or not anything else comes in.
                self.unflushed = true;
                Ok(Heard::Beat)
            }
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => Ok(Heard::Beat),
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) = frame.map_or((None, String::new()), |CloseFrame { code, reason }| {
                    (Some(u16::from(code)), reason.to_string())
                });
                Err(Ended::Closed { code, reason })
            }
        };
        Poll::Ready(heard)
    }

    /// Hands a text over for sending; [`Socket::poll_next`] sees to the rest. `None` is a ping.
    ///
    /// # Errors
    ///
    /// The connection has ended, or its peer has taken nothing for long.
    pub(crate) fn send(&mut self, text: Option<String>) -> Result<(), Ended> {
        let message = text.map_or(Message::Ping(Bytes::new()), |text| Message::Text(text.into()));
        self.unflushed = true;
        std::pin::Pin::new(&mut self.stream).start_send(message).map_err(ended)
    }

    /// Says goodbye, if the peer hears it soon.
    pub(crate) async fn close(mut self) {
        // Whether it is heard changes nothing for us.
        _ = tokio::time::timeout(GOODBYE, self.stream.close(None)).await;
    }
}

/// A depth message has some KiB; a burst of them is read by one call.
const READ_BUFFER_LEN: usize = 128 << 10;
/// Subscriptions and pings; far more than the venue's limit lets through.
const WRITE_BUFFER_LEN_MAX: usize = 1 << 20;
/// So much of what a venue says with a refusal is shown.
const SAID_MAX: usize = 300;
/// How long a peer has to hear a goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

fn ended(error: WsError) -> Ended {
    match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => Ended::Closed { code: None, reason: String::new() },
        WsError::Capacity(tokio_tungstenite::tungstenite::error::CapacityError::MessageTooLong { size, max_size }) => {
            Ended::TooLong { len: size, most: max_size }
        }
        WsError::Utf8(_) => Ended::NotUtf8,
        WsError::Io(error) => Ended::Broken(error.to_string()),
        WsError::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            Ended::Broken("ended without a goodbye".to_owned())
        }
        WsError::Protocol(error) => Ended::Protocol(error.to_string()),
        other => Ended::Broken(other.to_string()),
    }
}
