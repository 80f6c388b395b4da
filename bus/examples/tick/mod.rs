//! What the examples share: their message, where it goes, and how they say what went wrong.
// Each example uses its own part of it.
#![allow(dead_code)]

use chronicle_bus::{Message, message::OWN_TYPES};
#[cfg(target_os = "linux")]
pub(crate) use chronicle_platform_linux::Linux as System;
use chronicle_storage::root::Name;
use std::{error::Error, fmt};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    byteorder::little_endian::{I64, U64},
};

/// A price in hundredths.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Tick {
    pub(crate) id: U64,
    pub(crate) price: I64,
}

impl Message for Tick {
    const TYPE_ID: u16 = OWN_TYPES;
}

/// Venue, symbol and name of the stream.
pub(crate) fn stream() -> (Name, Name, Name) {
    let name = |name| Name::new(name).expect("a name");
    (name("demo"), name("btcusdt"), name("ticks"))
}

/// An error in words, with its causes: what `main` returns is printed as its `Debug` says.
pub(crate) struct InWords(Box<dyn Error>);

impl<E: Into<Box<dyn Error>>> From<E> for InWords {
    fn from(error: E) -> Self {
        InWords(error.into())
    }
}

impl fmt::Debug for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)?;
        let mut beneath = self.0.source();
        while let Some(cause) = beneath {
            write!(f, ": {cause}")?;
            beneath = cause.source();
        }
        Ok(())
    }
}
