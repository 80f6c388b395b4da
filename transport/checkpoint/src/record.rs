//! Keys and values in the store, and the checksum that binds each value to its key.
//!
//! ```text
//! key                              value, followed by CRC-32 over key and value
//! 1                                StoreRecord
//! 2, name                          CursorRecord
//! 3, id u64 big-endian             CheckpointRecord, then the state's name
//! 4, id, index u32 big-endian      chunk: up to CHUNK bytes of the snapshot; all but the last are CHUNK long
//! ```
//!
//! Integers in values are little-endian. A value that was moved to another key does not pass its checksum. The store's record
//! carries the id of the LMDB transaction that wrote it and is written by every transaction, so a meta page that leads to
//! another transaction's tree is found out: what LMDB's meta page lacks, a checksum, comes with it.

use crate::CheckpointId;
use static_assertions::const_assert_eq;
use std::mem::offset_of;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// First bytes of the store's record.
pub(crate) const MAGIC: [u8; 8] = *b"CHRONCKP";
/// Version of the records here.
pub(crate) const VERSION: u16 = 1;
/// Snapshot bytes in one chunk. With page header and checksum it fills a run of pages to the last byte, whatever the page size.
pub(crate) const CHUNK: usize = (1 << 20) - 16 - CRC_LEN;
/// Behind every value.
pub(crate) const CRC_LEN: usize = 4;

pub(crate) const STORE_KEY: [u8; 1] = [1];
pub(crate) const CURSORS: u8 = 2;
pub(crate) const CHECKPOINTS: u8 = 3;
pub(crate) const CHUNKS: u8 = 4;

/// The store itself: one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct StoreRecord {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U16,
    /// Zero.
    pub(crate) reserved: [u8; 6],
    /// LMDB transaction that wrote this.
    pub(crate) txn: U64,
    /// Raised by every transaction; numbers checkpoints and cursors, never reused.
    pub(crate) generation: U64,
    /// The WAL that the seqs count in; zero = none was seen yet.
    pub(crate) log: [u8; 16],
}
const_assert_eq!(size_of::<StoreRecord>(), 48);
const_assert_eq!(offset_of!(StoreRecord, txn), 16);
const_assert_eq!(offset_of!(StoreRecord, log), 32);

/// How far a consumer came.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct CursorRecord {
    pub(crate) generation: U64,
    pub(crate) seq: U64,
    pub(crate) epoch: U64,
    pub(crate) position: U64,
    /// Bit 0: the WAL is kept for it.
    pub(crate) flags: U32,
    /// Zero.
    pub(crate) reserved: U32,
}
const_assert_eq!(size_of::<CursorRecord>(), 40);

/// A checkpoint; the state's name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct CheckpointRecord {
    /// The checkpoint's id, again.
    pub(crate) generation: U64,
    /// What it stands for: every frame up to this seq is in the snapshot.
    pub(crate) seq: U64,
    /// When it was made, ns since 1970: for people.
    pub(crate) created_ns: U64,
    /// Length of the snapshot.
    pub(crate) len: U64,
}
const_assert_eq!(size_of::<CheckpointRecord>(), 32);

pub(crate) fn cursor_key(name: &str) -> Vec<u8> {
    [&[CURSORS], name.as_bytes()].concat()
}

pub(crate) fn checkpoint_key(id: CheckpointId) -> [u8; 9] {
    let mut key = [CHECKPOINTS; 9];
    key[1..].copy_from_slice(&id.0.to_be_bytes());
    key
}

pub(crate) fn chunk_key(id: CheckpointId, index: u32) -> [u8; 13] {
    let mut key = [CHUNKS; 13];
    key[1..9].copy_from_slice(&id.0.to_be_bytes());
    key[9..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The id in a checkpoint's key.
pub(crate) fn id_of(key: &[u8]) -> Option<CheckpointId> {
    let (&CHECKPOINTS, id) = key.split_first()? else { return None };
    Some(CheckpointId(u64::from_be_bytes(id.try_into().ok()?)))
}

fn crc(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// Puts the checksum behind `body`.
pub(crate) fn seal(key: &[u8], body: &mut Vec<u8>) {
    body.extend_from_slice(&crc(key, body).to_le_bytes());
}

/// The value without its checksum, once that is right; else what is wrong.
pub(crate) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], String> {
    let (body, stored) =
        value.split_last_chunk::<CRC_LEN>().ok_or_else(|| format!("value of {} bytes, too short", value.len()))?;
    match (u32::from_le_bytes(*stored), crc(key, body)) {
        (stored, computed) if stored == computed => Ok(body),
        (stored, computed) => Err(format!("checksum stored 0x{stored:08x}, computed 0x{computed:08x}")),
    }
}

/// A record of a fixed length and what follows it.
pub(crate) fn parse<'a, T: FromBytes + KnownLayout + Immutable + Unaligned>(
    key: &[u8],
    value: &'a [u8],
) -> Result<(&'a T, &'a [u8]), String> {
    let body = open(key, value)?;
    T::ref_from_prefix(body).map_err(|_| format!("value of {} bytes, too short", value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_its_key() {
        let mut value = b"hello".to_vec();
        seal(b"key", &mut value);
        assert_eq!(open(b"key", &value), Ok(&b"hello"[..]));
        assert!(open(b"other", &value).is_err());
        assert!(open(b"key", &value[..3]).unwrap_err().contains("too short"));
        for at in 0..value.len() {
            let mut flipped = value.clone();
            flipped[at] ^= 1;
            assert!(open(b"key", &flipped).is_err(), "byte {at}");
        }
    }

    /// Bytes of version 1, so that another implementation could be checked.
    #[test]
    fn golden() {
        let record = CursorRecord {
            generation: 7.into(),
            seq: 9.into(),
            epoch: 2.into(),
            position: 640.into(),
            flags: 1.into(),
            reserved: 0.into(),
        };
        let mut value = record.as_bytes().to_vec();
        let key = cursor_key("a");
        seal(&key, &mut value);
        assert_eq!(key, [2, b'a']);
        let expected = [
            &[7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x80, 2, 0, 0, 0, 0, 0, 0, 1][..],
            &[0; 7],
            &0x9934738b_u32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(value, expected);
        assert_eq!(id_of(&checkpoint_key(CheckpointId(0x0102))), Some(CheckpointId(0x0102)));
        assert_eq!(chunk_key(CheckpointId(1), 2), [4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
    }
}
