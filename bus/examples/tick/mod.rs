//! What the examples share: their message, and where it goes.
// Each example uses its own part of it.
#![allow(dead_code)]

use chronicle_bus::{Message, message::OWN_TYPES};
#[cfg(target_os = "linux")]
pub(crate) use chronicle_platform_linux::Linux as System;
use chronicle_storage::root::Name;
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
