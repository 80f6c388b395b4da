//! Frames and bytes that no client can use, each wrong in one way.

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::faults::Garbage;

/// A frame with this payload, whatever the rules say about it.
fn frame(opcode: OpCode, payload: Vec<u8>, change: impl FnOnce(&mut FrameHeader)) -> Message {
    let mut header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    change(&mut header);
    Message::Frame(Frame::from_payload(header, payload.into()))
}

/// Something to send as a frame, or bytes that are none.
pub(super) fn message(kind: Garbage) -> Result<Message, Vec<u8>> {
    let text = |payload: &[u8]| frame(OpCode::Data(Data::Text), payload.to_vec(), |_| {});
    Ok(match kind {
        Garbage::Json => text(br#"{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":17"#),
        Garbage::Numbers => text(
            br#"{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1e400,"s":"BTCUSDT","U":-1,"u":1.5,"b":[["NaN","1e99"],["1","-0"],["99999999999999999999999999","1"]],"a":[["","x"]]}}"#,
        ),
        Garbage::Nesting => text(&vec![b'['; 100_000]),
        Garbage::Utf8 => text(b"{\"stream\":\"\xff\xfe\xc0\x80\"}"),
        Garbage::Binary => frame(OpCode::Data(Data::Binary), (0..=255).collect(), |_| {}),
        Garbage::Empty => text(b""),
        Garbage::Opcode => frame(OpCode::Data(Data::Reserved(3)), b"?".to_vec(), |_| {}),
        Garbage::Continuation => frame(OpCode::Data(Data::Continue), b"...".to_vec(), |_| {}),
        Garbage::Ping => frame(OpCode::Control(Control::Ping), vec![b'!'; 1_000], |_| {}),
        Garbage::Masked => frame(OpCode::Data(Data::Text), b"{}".to_vec(), |header| header.mask = Some([1, 2, 3, 4])),
        Garbage::Endless => {
            let mut bytes = vec![0x81, 127];
            bytes.extend_from_slice(&(1_u64 << 62).to_be_bytes());
            bytes.extend_from_slice(b"{\"stream\":");
            return Err(bytes);
        }
        Garbage::Http => return Err(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_vec()),
    })
}

/// A text of this many bytes.
pub(super) fn long_text(bytes: u64) -> Message {
    Message::Text(" ".repeat(bytes as usize).into())
}

/// A frame marked as compressed that inflates to this many bytes.
pub(super) fn bomb(bytes: u64) -> Message {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    fill(&mut deflate, bytes);
    let packed = deflate.finish().unwrap_or_default();
    frame(OpCode::Data(Data::Text), packed, |header| header.rsv1 = true)
}

/// A gzip file that inflates to this many bytes.
pub(super) fn gzip_bomb(bytes: u64) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    fill(&mut gzip, bytes);
    gzip.finish().unwrap_or_default()
}

fn fill(out: &mut impl std::io::Write, bytes: u64) {
    let chunk = [b' '; 4_096];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(chunk.len() as u64);
        // The writer below is a `Vec`.
        let _ = out.write_all(&chunk[..now as usize]);
        left -= now;
    }
}
