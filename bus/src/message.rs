//! A record of fixed length as a frame's payload.
//!
//! A [`Message`] is plain data: its bytes in memory are its bytes in the queue, so sending is one copy into the mapping
//! and receiving one copy out, whoever may still write there. A frame's `type_id` says which message it is, and what is
//! read is checked twice: that the length is the type's, and what [`Message::check`] asks of the values.
//!
//! Never here: a message without a declared layout, a type that is guessed from its length.

use chronicle_core::Frame;
use std::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First number of a type that is nobody's but a program's own: those below are Chronicle's (docs/format.md, 7 and 23).
pub const OWN_TYPES: u16 = 0x8000;

/// A fixed record, at most 256 bytes long. Use zerocopy's little-endian integers for its fields, so that it has no padding
/// and the same bytes everywhere.
///
/// ```
/// use chronicle_bus::message::{Message, OWN_TYPES};
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, byteorder::little_endian::{I64, U64}};
///
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy)]
/// #[repr(C)]
/// struct Tick { price: I64, qty: I64, id: U64 }
///
/// impl Message for Tick {
///     const TYPE_ID: u16 = OWN_TYPES;
/// }
/// ```
pub trait Message: FromBytes + IntoBytes + Immutable + KnownLayout {
    /// What frames of this message say they are. Another layout of the same facts gets another number.
    const TYPE_ID: u16;

    /// What its values must be for a reader to go by them. Any bytes can arrive: a peer may write anything.
    ///
    /// # Errors
    ///
    /// The first field that no writer of ours stores.
    fn check(&self) -> Result<(), Malformed> {
        Ok(())
    }
}

/// Why a frame is not the message that its type says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// It has another length.
    Len {
        /// The message's.
        expected: usize,
        /// The frame's.
        found: usize,
    },
    /// A field has a value that no writer of ours stores.
    Field {
        /// Which.
        name: &'static str,
        /// The value.
        found: u64,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Len { expected, found } => write!(f, "payload has {found} bytes, the message {expected}"),
            Malformed::Field { name, found } => write!(f, "{name} is {found:#x}, which no writer stores"),
        }
    }
}

impl std::error::Error for Malformed {}

/// The message in a frame; `None` where its type is another.
///
/// # Errors
///
/// It has the type, but not the length or the values.
#[inline]
pub fn read<M: Message>(frame: &Frame<'_>) -> Result<Option<M>, Malformed> {
    const { assert!(size_of::<M>() <= 256, "a message has at most 256 bytes: longer ones are payloads of their own") }
    if frame.type_id != M::TYPE_ID {
        return Ok(None);
    }
    let malformed = Malformed::Len { expected: size_of::<M>(), found: frame.payload.len() };
    if frame.payload.len() != size_of::<M>() {
        return Err(malformed);
    }
    let message: M = frame.payload.read(0).ok_or(malformed)?;
    message.check()?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronicle_core::Payload;
    use zerocopy::byteorder::little_endian::U64;

    #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Even {
        number: U64,
    }

    impl Message for Even {
        const TYPE_ID: u16 = OWN_TYPES + 7;

        fn check(&self) -> Result<(), Malformed> {
            let found = self.number.get();
            if found.is_multiple_of(2) { Ok(()) } else { Err(Malformed::Field { name: "number", found }) }
        }
    }

    fn frame(type_id: u16, payload: &[u8]) -> Frame<'_> {
        Frame { seq: 1, time_ns: 2, type_id, flags: 0, offset: 0, payload: Payload::own(payload) }
    }

    #[test]
    fn a_message_is_its_type_its_length_and_its_values() {
        let even = Even { number: 4.into() };
        assert_eq!(read(&frame(Even::TYPE_ID, even.as_bytes())), Ok(Some(even)));
        assert_eq!(read::<Even>(&frame(1, &[0; 8])), Ok(None));
        for len in (0..20).filter(|len| *len != 8) {
            let bytes = vec![0; len];
            let found = read::<Even>(&frame(Even::TYPE_ID, &bytes));
            assert_eq!(found, Err(Malformed::Len { expected: 8, found: len }));
        }
        let odd = read::<Even>(&frame(Even::TYPE_ID, &3_u64.to_le_bytes())).unwrap_err();
        assert_eq!(odd.to_string(), "number is 0x3, which no writer stores");
    }
}
