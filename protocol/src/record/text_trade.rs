//! A trade that [`Trade`](super::Trade) cannot hold: its id is a text, or it has none, or nobody knows who the aggressor was.

use core::mem::size_of;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{I64, U64};

use super::order::{RecordFlags, Side};
use super::{EncodeError, Front, HEAD, Head, Malformed, Parts, Writer, check_symbol};
use crate::layout::{TextTradeLayout, marks};

/// A trade whose id is a text, or that has none. One with a numeric id and a known side is a [`Trade`](super::Trade).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextTrade<'a> {
    /// Times and scales.
    pub head: Head,
    /// The venue's id; empty = none.
    pub id: &'a str,
    /// Mantissa of the price.
    pub price: i64,
    /// Mantissa of the quantity.
    pub qty: i64,
    /// Side of the aggressor, where it is known.
    pub side: Option<Side>,
    /// The venue's number of the message; 0 = none. Several trades of one event have the same.
    pub sequence: u64,
    /// What the record says about itself.
    pub flags: RecordFlags,
    /// The venue's name of the symbol.
    pub symbol: &'a str,
}

impl<'a> TextTrade<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        HEAD + size_of::<TextTradeLayout>() + self.id.len() + self.symbol.len()
    }

    /// Writes the payload to the front of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut front = Front::of(out, self.encoded_len())?;
        self.write(|bytes| front.put(bytes))?;
        Ok(front.at)
    }

    /// Gives the payload out part by part, [`encoded_len`](Self::encoded_len) bytes in all: into claimed space, say.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing was given out then.
    pub fn write(&self, put: impl FnMut(&[u8])) -> Result<(), EncodeError> {
        check_symbol(self.symbol, false)?;
        let id_len = u8::try_from(self.id.len()).map_err(|_| EncodeError::IdLen { len: self.id.len() })?;
        let fixed =
            TextTradeLayout { price: I64::new(self.price), qty: I64::new(self.qty), sequence: U64::new(self.sequence) };
        let bits = Side::code(self.side)
            | u32::from(id_len) << marks::TEXT_TRADE_ID_SHIFT
            | u32::from(self.flags.0) << marks::TEXT_TRADE_FLAGS_SHIFT;
        let mut writer = Writer::new(put);
        writer.head(&self.head, self.symbol, bits);
        writer.put(fixed.as_bytes());
        writer.put(self.id.as_bytes());
        writer.put(self.symbol.as_bytes());
        writer.close(self.encoded_len());
        Ok(())
    }

    pub(super) fn parse(mut parts: Parts<'a>) -> Result<Self, Malformed> {
        let fixed: &TextTradeLayout = parts.fixed()?;
        let bits = parts
            .marks(marks::SIDE_MASK | 0xff << marks::TEXT_TRADE_ID_SHIFT | 0xff << marks::TEXT_TRADE_FLAGS_SHIFT)?;
        let id = parts.id((bits >> marks::TEXT_TRADE_ID_SHIFT & 0xff) as usize)?;
        let symbol = parts.symbol()?;
        Ok(Self {
            head: parts.head()?,
            id,
            price: fixed.price.get(),
            qty: fixed.qty.get(),
            side: Side::from_code(bits & marks::SIDE_MASK)?,
            sequence: fixed.sequence.get(),
            flags: RecordFlags((bits >> marks::TEXT_TRADE_FLAGS_SHIFT) as u8),
            symbol,
        })
    }
}
