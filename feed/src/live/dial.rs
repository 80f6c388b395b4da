//! Ways to a venue: an address, a connection to it, TLS where the address says so.
//!
//! Roots are those that browsers trust, compiled in ([`webpki_roots`]): a feed in a bare container and one on a desk trust
//! the same authorities, and no file of the machine can change that. Whoever must trust another one, for a proxy or a
//! test, adds it by [`Trust::add_pem`]. The cryptography is ring's, named here explicitly and nowhere taken from a
//! process-wide default that another library might set first.
//!
//! What cannot be had: an address without a host, credentials in an address, TLS below 1.2.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject},
    },
};

/// Where something listens: `wss://stream.binance.com:9443`, `http://127.0.0.1:8080/under/here`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What comes before a request's own path; no slash at its end.
    pub(crate) prefix: String,
}

/// A text that is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAddress {
    text: String,
    why: &'static str,
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address `{}`: {}", self.text.escape_debug(), self.why)
    }
}

impl core::error::Error for BadAddress {}

impl std::str::FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = |why| BadAddress { text: text.to_owned(), why };
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| bad("it begins with none of wss://, ws://, https://, http://"))?;
        let tls = match scheme {
            "wss" | "https" => true,
            "ws" | "http" => false,
            _ => return Err(bad("it begins with none of wss://, ws://, https://, http://")),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if rest.contains(['?', '#']) || rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(bad("only a host, a port and a path may follow"));
        }
        if authority.contains('@') {
            return Err(bad("credentials do not belong into an address"));
        }
        // An IPv6 host stands in brackets and has colons of its own.
        let port_at = authority.rfind(':').filter(|at| authority.rfind(']').is_none_or(|end| *at > end));
        let (host, port) = match port_at {
            None => (authority, if tls { 443 } else { 80 }),
            Some(at) => (&authority[..at], authority[at + 1..].parse().map_err(|_| bad("its port is no number"))?),
        };
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        Ok(Self { tls, host: host.to_owned(), port, prefix: path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.host, self.port, self.prefix)
    }
}

impl Address {
    /// What a `Host` header says: the port only where it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        if self.port == if self.tls { 443 } else { 80 } {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn server_name(&self) -> Result<ServerName<'static>, InvalidDnsNameError> {
        ServerName::try_from(self.host.trim_start_matches('[').trim_end_matches(']').to_owned())
    }
}

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: RootCertStore,
}

impl Default for Trust {
    fn default() -> Self {
        Self { roots: RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() } }
    }
}

impl Trust {
    /// Believes one more authority or more: the certificates of a PEM file. Gives how many.
    ///
    /// # Errors
    ///
    /// What is wrong with the file; none of it is added then.
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<usize, String> {
        let mut roots = self.roots.clone();
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| format!("not PEM: {error}"))?;
            roots.add(certificate).map_err(|error| error.to_string())?;
            added += 1;
        }
        if added == 0 {
            return Err("no certificate in it".to_owned());
        }
        self.roots = roots;
        Ok(added)
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum DialError {
    /// Not within the time allowed.
    TimedOut { after: Duration, doing: &'static str },
    /// The system or the peer refused.
    Connect(io::Error),
    /// No TLS session: a certificate that is not believed, a peer that speaks something else.
    Tls(io::Error),
}

impl DialError {
    /// Trying again will not help until somebody changes something.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            // A name that does not exist and one that cannot be looked up at the moment look the same here.
            Self::TimedOut { .. } | Self::Connect(_) => false,
            Self::Tls(error) => error
                .get_ref()
                .and_then(|inner| inner.downcast_ref())
                .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_))),
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after, doing } => write!(f, "{doing}: no answer for {} s", after.as_secs_f64()),
            Self::Connect(error) => write!(f, "connecting: {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
        }
    }
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Dialer {
    tls: TlsConnector,
    timeout: Duration,
}

impl Dialer {
    pub(crate) fn new(trust: Trust, timeout: Duration) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .with_root_certificates(trust.roots)
            .with_no_client_auth();
        Self { tls: TlsConnector::from(Arc::new(config)), timeout }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) async fn dial(&self, to: &Address) -> Result<Transport, DialError> {
        let after = self.timeout;
        let host = to.host.trim_start_matches('[').trim_end_matches(']');
        let tcp = tokio::time::timeout(after, TcpStream::connect((host, to.port)))
            .await
            .map_err(|_| DialError::TimedOut { after, doing: "connecting" })?
            .map_err(DialError::Connect)?;
        // What is sent is small and waited for: pings, pongs, subscriptions.
        tcp.set_nodelay(true).map_err(DialError::Connect)?;
        if !to.tls {
            return Ok(Transport::Plain(tcp));
        }
        let name = to.server_name().map_err(|error| DialError::Tls(io::Error::other(error)))?;
        let tls = tokio::time::timeout(after, self.tls.connect(name, tcp))
            .await
            .map_err(|_| DialError::TimedOut { after, doing: "TLS handshake" })?
            .map_err(DialError::Tls)?;
        Ok(Transport::Tls(Box::new(tls)))
    }
}

/// Bytes to and from a venue.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_what_is_none_is_refused_with_its_reason() {
        let read = |text: &str| text.parse::<Address>().map(|a| (a.tls, a.host, a.port, a.prefix));
        let is = |tls, host: &str, port, prefix: &str| Ok((tls, host.to_owned(), port, prefix.to_owned()));
        assert_eq!(read("wss://stream.binance.com:9443"), is(true, "stream.binance.com", 9443, ""));
        assert_eq!(read("https://api.binance.com"), is(true, "api.binance.com", 443, ""));
        assert_eq!(read("ws://127.0.0.1:8080/a/b/"), is(false, "127.0.0.1", 8080, "/a/b"));
        assert_eq!(read("http://[::1]:80"), is(false, "[::1]", 80, ""));
        assert_eq!(read("http://[::1]"), is(false, "[::1]", 80, ""));
        for (text, why) in [
            ("stream.binance.com", "it begins with none of"),
            ("ftp://x", "it begins with none of"),
            ("wss://", "it has no host"),
            ("wss://:443", "it has no host"),
            ("wss://x:port", "its port is no number"),
            ("wss://x:70000", "its port is no number"),
            ("wss://me:secret@x", "credentials"),
            ("wss://x/y?z=1", "only a host"),
            ("wss://x y", "only a host"),
        ] {
            let refused = read(text).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn a_file_without_certificates_adds_none() {
        let mut trust = Trust::default();
        assert_eq!(trust.add_pem(b"hello").unwrap_err(), "no certificate in it");
        let cut = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        assert!(trust.add_pem(cut).is_err());
    }
}
