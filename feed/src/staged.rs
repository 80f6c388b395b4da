//! Records that a piece of a file became, in order, until they are given out.

use chronicle_protocol::Record;

use crate::import::Parsed;

/// Where one of them lies.
#[derive(Clone, Copy, Debug)]
struct Given {
    type_id: u16,
    ingest_ns: u64,
    from: usize,
    to: usize,
    line: u64,
}

/// The records; its memory is used again and again.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    bytes: Vec<u8>,
    /// Bytes in use.
    len: usize,
    records: Vec<Given>,
    next: usize,
}

impl Staged {
    /// Adds a record that came from this line.
    ///
    /// # Panics
    ///
    /// It cannot be written: whoever made it must have refused what a record does not hold.
    pub(crate) fn push(&mut self, record: &Record<'_>, line: u64) {
        let from = self.len;
        let needed = record.encoded_len();
        if self.bytes.len() < from + needed {
            self.bytes.resize(from + needed, 0);
        }
        match record.encode(&mut self.bytes[from..from + needed]) {
            Ok(len) => self.len += len,
            Err(why) => panic!("bug: line {line} became a record that cannot be written: {why}"),
        }
        let ingest_ns = record.head().ingest_ns;
        self.records.push(Given { type_id: record.type_id(), ingest_ns, from, to: self.len, line });
    }

    /// Whether all were given out.
    pub(crate) fn is_drained(&self) -> bool {
        self.next == self.records.len()
    }

    /// Makes room, once all were given out.
    pub(crate) fn clear(&mut self) {
        debug_assert!(self.is_drained(), "a record would be lost");
        self.records.clear();
        (self.len, self.next) = (0, 0);
    }

    /// The next one.
    pub(crate) fn give(&mut self) -> Option<Parsed<'_>> {
        let Given { type_id, ingest_ns, from, to, line } = *self.records.get(self.next)?;
        self.next += 1;
        Some(Parsed { type_id, ingest_ns, payload: &self.bytes[from..to], line })
    }
}
