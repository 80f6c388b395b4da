//! The exchange as others reach it: HTTP over one TCP connection that is kept open, and opened again when it ends.
//!
//! What is asked twice because the first answer was lost must mean the same as asked once: looking does, and so does an
//! order whose id the exchange has. Whoever calls [`Exchange::once`] knows which it is.

use crate::run::Failure;
use serde_json::Value;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long any one step of a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// How often what can be asked again is asked, in all about ten seconds.
const ATTEMPTS: u32 = 500;
const LINE_LEN_MAX: u64 = 16 << 10;
const LINES_MAX: usize = 100;
/// All orders of a long run on one page are less.
const BODY_LEN_MAX: u64 = 64 << 20;

/// An answer of the exchange.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        self.status == 200
    }

    /// The venue's number of what is wrong; 0 = none.
    pub(crate) fn code(&self) -> i64 {
        self.body["code"].as_i64().unwrap_or_default()
    }
}

/// A client of the exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    /// Nobody wants an answer any more.
    over: Option<Arc<AtomicBool>>,
}

impl Exchange {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Exchange { address, connection: None, over: None }
    }

    /// A client that gives up once this is set.
    pub(crate) fn until(address: SocketAddr, over: Arc<AtomicBool>) -> Self {
        Exchange { over: Some(over), ..Exchange::new(address) }
    }

    /// Asks once. After an error nobody knows whether the exchange did what it was asked.
    pub(crate) fn once(&mut self, method: &str, target: &str) -> io::Result<Answer> {
        let result = self.exchange(method, target);
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    /// Asks until there is an answer that is not the exchange's own trouble.
    pub(crate) fn ask(&mut self, method: &str, target: &str) -> Result<Answer, Failure> {
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match self.once(method, target) {
                Ok(answer) if answer.status < 500 && !matches!(answer.status, 418 | 429) => return Ok(answer),
                Ok(answer) => why = format!("status {}", answer.status),
                Err(error) => why = error.to_string(),
            }
            if self.over.as_ref().is_some_and(|over| over.load(Ordering::Relaxed)) {
                return Err(Failure::told());
            }
            std::thread::sleep(PAUSE);
        }
        Err(Failure::Problem(format!("the exchange at {} does not answer {method} {target}: {why}", self.address)))
    }

    /// Asks for what must be there.
    pub(crate) fn get(&mut self, target: &str) -> Result<Value, Failure> {
        self.must("GET", target)
    }

    /// Has something done that must work.
    pub(crate) fn must(&mut self, method: &str, target: &str) -> Result<Value, Failure> {
        let answer = self.ask(method, target)?;
        if answer.is_ok() {
            return Ok(answer.body);
        }
        Err(Failure::Problem(format!("the exchange says {} to {method} {target}: {}", answer.status, answer.body)))
    }

    fn exchange(&mut self, method: &str, target: &str) -> io::Result<Answer> {
        let address = self.address;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                none.insert(BufReader::new(stream))
            }
        };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
        connection.get_mut().write_all(request.as_bytes())?;
        let first = line(connection)?;
        let status =
            first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad("a status", &first))?;
        let (mut len, mut closes) = (None, false);
        for _ in 0..LINES_MAX {
            let header = line(connection)?;
            let Some((name, value)) = header.split_once(':') else {
                let len = len.filter(|len| *len <= BODY_LEN_MAX).ok_or_else(|| bad("a length", &first))?;
                let mut body = Vec::new();
                if connection.take(len).read_to_end(&mut body)? as u64 != len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if closes {
                    self.connection = None;
                }
                let body = serde_json::from_slice(&body).map_err(io::Error::from)?;
                return Ok(Answer { status, body });
            };
            if name.eq_ignore_ascii_case("content-length") {
                len = value.trim().parse::<u64>().ok();
            }
            closes |= name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close");
        }
        Err(bad("an end of its head", &first))
    }
}

/// A line of a head, without its end.
fn line(from: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    from.take(LINE_LEN_MAX).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
}

fn bad(what: &str, first: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("an answer without {what}: `{}`", first.escape_debug()))
}
