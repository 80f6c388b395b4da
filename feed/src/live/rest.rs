//! One GET request to a venue, with a bound on everything: time, length, and what a body may inflate to, which is nothing.
//!
//! No compression is asked for, and a compressed answer is refused unread: a bomb has nothing to go off in. Each request
//! has a connection of its own: a feed asks for a snapshot now and then, and a connection that sat idle for an hour is
//! more often dead than useful.

use std::{fmt, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, StatusCode,
    body::{Body, Bytes},
    header,
};
use hyper_util::rt::TokioIo;

use super::dial::{Address, DialError, Dialer};

/// Why there is no body.
#[derive(Debug)]
pub(crate) enum RestError {
    Dial(DialError),
    /// Not within the time allowed.
    TimedOut {
        after: Duration,
    },
    /// The peer closed, or spoke something else.
    Http(hyper::Error),
    /// Longer than a body may be.
    TooLong {
        most: usize,
    },
    /// The venue sends what was not asked for.
    Encoded {
        how: String,
    },
    /// The venue says: slower.
    Limited {
        status: u16,
        retry_after: Option<Duration>,
    },
    /// The venue says no.
    Status {
        status: u16,
        said: String,
    },
}

impl RestError {
    /// Trying again will not help until somebody changes something.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_final(),
            Self::Status { status, .. } => (400..500).contains(status) && *status != 408,
            _ => false,
        }
    }
}

impl fmt::Display for RestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(error) => error.fmt(f),
            Self::TimedOut { after } => write!(f, "no whole answer for {} s", after.as_secs_f64()),
            Self::Http(error) => {
                write!(f, "{error}")?;
                let cause = core::error::Error::source(error);
                cause.map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Self::TooLong { most } => write!(f, "answer longer than {most} bytes"),
            Self::Encoded { how } => write!(f, "answer encoded as `{}`, which was not asked for", how.escape_debug()),
            Self::Limited { status, retry_after: None } => write!(f, "status {status}: too many requests"),
            Self::Limited { status, retry_after: Some(after) } => {
                write!(f, "status {status}: too many requests, again in {} s", after.as_secs())
            }
            Self::Status { status, said } => write!(f, "status {status}: {}", said.escape_debug()),
        }
    }
}

/// So much of what a venue says with a refusal is shown.
const SAID_MAX: usize = 300;
/// A venue that bans a client says for how long; more than this is not believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3 * 24 * 3600);

/// Asks for `path` at `from`.
pub(crate) async fn get(dialer: &Dialer, from: &Address, path: &str, len_max: usize) -> Result<Bytes, RestError> {
    let after = dialer.timeout();
    tokio::time::timeout(after, ask(dialer, from, path, len_max)).await.map_err(|_| RestError::TimedOut { after })?
}

async fn ask(dialer: &Dialer, from: &Address, path: &str, len_max: usize) -> Result<Bytes, RestError> {
    let transport = dialer.dial(from).await.map_err(RestError::Dial)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(transport)).await.map_err(RestError::Http)?;
    let request = Request::get(format!("{}{path}", from.prefix))
        .header(header::HOST, from.authority())
        .header(header::USER_AGENT, super::USER_AGENT)
        .header(header::ACCEPT_ENCODING, "identity")
        .body(Empty::<Bytes>::new())
        .expect("an address and a venue's paths have no byte that a request may not have");
    // The connection is driven beside the answer and is dropped with it.
    tokio::select! {
        body = answer(&mut sender, request, len_max) => body,
        Err(error) = connection => Err(RestError::Http(error)),
    }
}

async fn answer(
    sender: &mut hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    len_max: usize,
) -> Result<Bytes, RestError> {
    let response = sender.send_request(request).await.map_err(RestError::Http)?;
    let (status, headers) = (response.status(), response.headers());
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    // 418: the venue has banned us for not having heard 429.
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::IM_A_TEAPOT {
        let seconds = text(header::RETRY_AFTER).and_then(|value| value.trim().parse().ok());
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        return Err(RestError::Limited { status: status.as_u16(), retry_after });
    }
    if let Some(how) = text(header::CONTENT_ENCODING).filter(|how| how != "identity") {
        return Err(RestError::Encoded { how });
    }
    let mut body = response.into_body();
    let len_max = if status.is_success() { len_max } else { SAID_MAX };
    let mut whole = Vec::with_capacity(body.size_hint().upper().map_or(0, |len| (len as usize).min(len_max)));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(RestError::Http)?.into_data() else { continue };
        let room = len_max - whole.len();
        if data.len() > room {
            if status.is_success() {
                return Err(RestError::TooLong { most: len_max });
            }
            whole.extend_from_slice(&data[..room]);
            break;
        }
        whole.extend_from_slice(&data);
    }
    if !status.is_success() {
        return Err(RestError::Status { status: status.as_u16(), said: String::from_utf8_lossy(&whole).into_owned() });
    }
    Ok(whole.into())
}
