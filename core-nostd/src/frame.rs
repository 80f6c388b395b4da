//! Frames as bytes in private memory: for files that are written and read through buffers.
//!
//! The same frames in shared memory are written by [`crate::Appender`] and read by [`crate::Reader`]; both check with
//! the functions of this module, so that a frame means the same however its bytes were reached.

use crate::{
    Checksum, Damage, Fault, Payload,
    layout::{COMMIT_END, FRAME_ALIGN, FRAME_HEADER_LEN, FrameHeader, frame_len},
};
use zerocopy::{FromBytes, IntoBytes};

/// The CRC-32 of a frame whose header and payload are given apart.
#[inline]
#[must_use]
pub fn crc(header: &FrameHeader, payload: &[u8], salt: u32) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(salt ^ header.commit.get());
    crc.update(&header.as_bytes()[8..]);
    crc.update(payload);
    crc.finalize()
}

/// The header of a frame with this payload, checksum included.
///
/// `None` if the payload is longer than any segment.
#[must_use]
pub fn header(append: crate::Append, seq: u64, payload: &[u8], salt: u32, checksum: Checksum) -> Option<FrameHeader> {
    frame_len(payload.len())?;
    let mut header = FrameHeader {
        commit: (payload.len() as u32 + 1).into(),
        crc: 0.into(),
        seq: seq.into(),
        time_ns: append.time_ns.into(),
        type_id: append.type_id.into(),
        flags: append.flags.into(),
        reserved: 0.into(),
    };
    if checksum == Checksum::Frame {
        header.crc = crc(&header, payload, salt).into();
    }
    Some(header)
}

/// The frame that ends a segment. `next_seq` is the first seq of the one that follows.
#[must_use]
pub fn end(next_seq: u64, salt: u32, checksum: Checksum) -> FrameHeader {
    let mut header = FrameHeader { commit: COMMIT_END.into(), seq: next_seq.into(), ..FrameHeader::default() };
    if checksum == Checksum::Frame {
        header.crc = crc_cold(salt ^ COMMIT_END, &header.as_bytes()[8..]).into();
    }
    header
}

/// A half-byte's share in a CRC-32: one cache line.
const NIBBLES: [u32; 16] = {
    let mut table = [0; 16];
    let mut at = 0;
    while at < 16 {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 4 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

/// The CRC-32 of a few bytes, for where they stand alone: at a roll. crc32fast sums so short a run through 16 KiB of
/// tables, a line of them for each byte, and a segment's worth of frames has just passed through the cache: each line is
/// a load from memory. Here all of them are in one.
pub(crate) fn crc_cold(initial: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!initial, |crc, byte| {
        let crc = crc ^ u32::from(*byte);
        let crc = crc >> 4 ^ NIBBLES[(crc & 15) as usize];
        crc >> 4 ^ NIBBLES[(crc & 15) as usize]
    })
}

#[cfg(all(test, not(loom)))]
mod cold_tests {
    #[test]
    fn both_ways_to_sum_agree() {
        let bytes: Vec<u8> = (0..if cfg!(miri) { 20u32 } else { 200 }).map(|at| (at * 37) as u8).collect();
        for len in 0..bytes.len() {
            for initial in [0, 1, 0x8000_0000, 0xdead_beef, u32::MAX] {
                let mut fast = crc32fast::Hasher::new_with_initial(initial);
                fast.update(&bytes[..len]);
                assert_eq!(super::crc_cold(initial, &bytes[..len]), fast.finalize(), "{len} bytes from {initial:#x}");
            }
        }
    }
}

/// What stands at the start of some bytes.
#[derive(Clone, Copy, Debug)]
pub enum Decoded<'a> {
    /// A whole frame; it takes `len` bytes, padding included.
    Frame {
        /// Its header.
        header: FrameHeader,
        /// Its payload.
        payload: &'a [u8],
        /// Bytes that it takes.
        len: usize,
    },
    /// The end of the segment.
    End {
        /// First seq of the segment that follows.
        next_seq: u64,
    },
    /// Commit word 0: nothing was appended here.
    Open,
    /// The bytes stop before the frame does; at least this many are needed.
    More {
        /// Bytes of the whole frame, or of its header.
        needed: usize,
    },
}

/// Decodes the frame at the start of `bytes`, which stand at `offset` of their segment.
///
/// `left` is how many bytes the segment has from there on: a commit word that claims more is damage, whatever `bytes`
/// holds. Nothing is allocated, and no more is looked at than `bytes`. Whether the seq is the next one is for the
/// caller to see, who knows the one before.
///
/// # Errors
///
/// Damage with its offset: a length past the segment, a wrong CRC, non-zero padding or reserved field, or less left than
/// a frame's header takes.
pub fn decode(bytes: &[u8], offset: u64, left: u64, salt: u32, checksum: Checksum) -> Result<Decoded<'_>, Damage> {
    if left < FRAME_HEADER_LEN as u64 {
        let fault = Fault::Short { needed: FRAME_HEADER_LEN as u64, found: left };
        return Err(Damage::at(offset, fault));
    }
    let Ok((header, _)) = FrameHeader::read_from_prefix(bytes) else {
        return Ok(Decoded::More { needed: FRAME_HEADER_LEN });
    };
    let commit = header.commit.get();
    if commit == 0 {
        return Ok(Decoded::Open);
    }
    if commit == COMMIT_END {
        check(&header, &[], offset, salt, checksum)?;
        return Ok(Decoded::End { next_seq: header.seq.get() });
    }
    let (payload_len, len) = claimed(commit, offset, left)?;
    let Some(frame) = bytes.get(..len) else { return Ok(Decoded::More { needed: len }) };
    let (payload, padding) = frame[FRAME_HEADER_LEN..].split_at(payload_len);
    check(&header, payload, offset, salt, checksum)?;
    if let Some(found) = padding.iter().find(|byte| **byte != 0) {
        let at = offset + (FRAME_HEADER_LEN + payload_len) as u64;
        return Err(Damage::at(at, Fault::Padding { found: *found }));
    }
    Ok(Decoded::Frame { header, payload, len })
}

/// Payload length and whole length that a commit word, neither 0 nor `End`, claims, if that many bytes are left.
#[inline]
pub(crate) fn claimed(commit: u32, offset: u64, left: u64) -> Result<(usize, usize), Damage> {
    let payload_len = commit as usize - 1;
    match frame_len(payload_len) {
        Some(len) if len as u64 <= left => Ok((payload_len, len)),
        _ => {
            let claimed = (u64::from(commit) - 1 + FRAME_HEADER_LEN as u64).next_multiple_of(FRAME_ALIGN as u64);
            Err(Damage::at(offset, Fault::Length { claimed, left }))
        }
    }
}

fn check(header: &FrameHeader, payload: &[u8], offset: u64, salt: u32, checksum: Checksum) -> Result<(), Damage> {
    if checksum == Checksum::Frame {
        let computed = crc(header, payload, salt);
        verdict(header, computed, offset)?;
    }
    reserved(header, offset)
}

pub(crate) fn verdict(header: &FrameHeader, computed: u32, offset: u64) -> Result<(), Damage> {
    if computed != header.crc.get() {
        return Err(Damage::at(offset, Fault::Crc { stored: header.crc.get(), computed }));
    }
    Ok(())
}

pub(crate) fn reserved(header: &FrameHeader, offset: u64) -> Result<(), Damage> {
    if header.reserved.get() != 0 {
        let fault = Fault::Field { name: "reserved", found: header.reserved.get().into() };
        return Err(Damage::at(offset + 28, fault));
    }
    Ok(())
}

/// A decoded frame as readers hand it out.
impl<'a> crate::Frame<'a> {
    /// The frame of a header and a payload in private memory that [`decode`] accepted.
    #[must_use]
    pub fn own(header: &FrameHeader, payload: &'a [u8], offset: u64) -> Self {
        crate::Frame {
            seq: header.seq.get(),
            time_ns: header.time_ns.get(),
            type_id: header.type_id.get(),
            flags: header.flags.get(),
            offset,
            payload: Payload::own(payload),
        }
    }
}
