//! The parameters of a request: `symbol=BTCUSDT&limit=100`, from the query or the body.

/// Most parameters that are looked at.
const COUNT_MAX: usize = 64;

/// Names and values, decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads both texts; what stands in the first counts.
    #[must_use]
    pub(crate) fn new(query: &str, body: &str) -> Self {
        let pairs = query.split('&').chain(body.split('&')).filter(|pair| !pair.is_empty()).take(COUNT_MAX);
        Self(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| (decode(n), decode(v))).collect(),
        )
    }

    /// The first value of this name that is not empty.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// Undoes `%2F` and `+`. What is no such escape stays as it is; what is no UTF-8 afterwards becomes U+FFFD.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', _, _) => out.push(b' '),
            _ => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_what_is_none_is_kept() {
        let query = Query::new("symbol=BTC%2FUSD&x=a+b&&bad=%zz%4&ff=%ff&empty=", "symbol=other&side=BUY");
        assert_eq!(query.get("symbol"), Some("BTC/USD"));
        assert_eq!(query.get("x"), Some("a b"));
        assert_eq!(query.get("bad"), Some("%zz%4"));
        assert_eq!(query.get("ff"), Some("\u{fffd}"));
        assert_eq!(query.get("side"), Some("BUY"));
        assert_eq!(query.get("empty"), None);
    }
}
