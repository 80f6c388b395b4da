//! A file is a stranger's: cut, flipped, endless, or made to hurt. Whatever it is, reading it ends, in bounded memory,
//! with every whole good line given and every other one counted; only the reader's own errors are errors.

mod files;

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::sync::LazyLock;

use chronicle_feed::{ImportError, LINE_LEN_MAX, MALFORMED_LINES_MAX, Recording, Report, Venue, check, import};
use chronicle_protocol::Record;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// The excerpt's text.
static EXCERPT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let gz = std::fs::read(files::testdata("binance-spot/ethusdt-20240808-excerpt.gz")).unwrap();
    let mut text = Vec::new();
    MultiGzDecoder::new(&gz[..]).read_to_end(&mut text).unwrap();
    text
});

/// Its first lines.
fn lines(count: usize) -> Vec<u8> {
    EXCERPT.split_inclusive(|byte| *byte == b'\n').take(count).flatten().copied().collect()
}

/// The same without the snapshot, which is 40 times as long as any other line.
fn short_lines(count: usize) -> Vec<u8> {
    let short = EXCERPT.split_inclusive(|byte| *byte == b'\n').filter(|line| line.len() < 4_000);
    short.take(count).flatten().copied().collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Reads it; whatever it is, the counts add up and every record can be read.
fn read(file: impl Read) -> Report {
    let mut records = 0;
    let report = import(Venue::BinanceSpot, "hostile", file, |parsed| {
        let record = Record::parse(parsed.type_id, parsed.payload).unwrap();
        assert_eq!(record.head().ingest_ns, parsed.ingest_ns);
        records += 1;
        Ok::<(), Infallible>(())
    })
    .unwrap();
    assert_eq!(report.lines, report.malformed + report.by_kind.values().sum::<u64>());
    assert_eq!(records, report.records);
    assert_eq!(report.opaque, report.opaque_by_reason.values().sum::<u64>());
    assert_eq!(report.malformed_lines.len(), (report.malformed as usize).min(MALFORMED_LINES_MAX));
    assert!(report.truncated_at.is_none() || report.corrupt_at.is_none());
    report
}

/// Gives one byte a call, and an interruption before each.
struct Slow<'a>(&'a [u8], bool);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = self.0.len().min(1).min(out.len());
        out[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

/// Ends with an error instead of an end.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the disk is gone")),
            len => Ok(len),
        }
    }
}

#[test]
fn every_cut_of_a_gzip_gives_all_whole_lines_before_it() {
    let text = short_lines(40);
    let gz = gzip(&text);
    let whole = read(&gz[..]);
    assert!(whole.is_clean());
    let mut last = 0;
    for len in 0..gz.len() {
        let report = read(&gz[..len]);
        if len < 2 {
            // Not yet gzip: nothing at all, or one byte that is a malformed line.
            assert_eq!((report.lines, report.malformed), (len as u64, len as u64));
            continue;
        }
        let cut = report.truncated_at.as_ref().unwrap_or_else(|| panic!("cut at {len} was not seen"));
        assert_eq!((report.malformed, cut.compressed_offset), (0, len as u64));
        assert!(report.lines >= last, "more of the file, fewer lines");
        last = report.lines;
        let known = text[..cut.text_offset as usize].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!((report.lines, cut.line), (known, known + 1), "cut at {len}");
    }
    // All lines are there when only the trailer is cut, and still it is a cut.
    assert_eq!(last, whole.lines);
}

#[test]
fn every_flipped_byte_of_a_gzip_is_noticed_or_harmless() {
    let text = short_lines(4);
    let gz = gzip(&text);
    let mut harmless = 0;
    for at in 0..gz.len() {
        for bit in 0..8 {
            let mut flipped = gz.clone();
            flipped[at] ^= 1 << bit;
            let report = read(&flipped[..]);
            assert_eq!(report.bytes, gz.len() as u64, "the digest is of the whole file");
            if report.is_clean() {
                // Flags, time and system in the header say nothing about the text, nor do the bits behind the last
                // code, up to the checksum's first byte.
                let says_nothing = (3..10).contains(&at) || at == gz.len() - 9;
                assert!(says_nothing, "byte {at} of {} bit {bit} was not noticed", gz.len());
                assert_eq!(report.lines, 4);
                harmless += 1;
            }
        }
    }
    assert!(harmless > 0);
}

#[test]
fn members_follow_each_other_and_padding_is_no_damage() {
    let text = lines(9);
    let (front, back) = text.split_at(text.len() / 2);
    let mut gz = [gzip(front), gzip(b""), gzip(back)].concat();
    let report = read(&gz[..]);
    assert!(report.is_clean());
    assert_eq!(report.lines, 9, "a line may go on in the next member");
    gz.extend([0; 700]);
    assert!(read(&gz[..]).is_clean());
    let before = gz.len() as u64;

    let mut garbage = gz.clone();
    garbage.extend(b"garbage");
    let report = read(&garbage[..]);
    let corrupt = report.corrupt_at.unwrap();
    assert_eq!((report.lines, corrupt.compressed_offset, corrupt.line, corrupt.partial_len), (9, before, 10, 0));
    assert_eq!(corrupt.why, "bytes behind the last gzip member are no gzip");

    gz.push(0x1f);
    assert!(read(&gz[..]).truncated_at.is_some());
    gz.push(0x8b);
    assert!(read(&gz[..]).truncated_at.is_some());
}

#[test]
fn a_wrong_checksum_is_corrupt_and_says_so() {
    let text = lines(5);
    let mut gz = gzip(&text);
    let crc_at = gz.len() - 8;
    gz[crc_at] ^= 1;
    let report = read(&gz[..]);
    let corrupt = report.corrupt_at.unwrap();
    assert_eq!((report.lines, report.malformed, corrupt.text_offset), (5, 0, text.len() as u64));
    assert!(!corrupt.why.is_empty());
}

#[test]
fn the_name_says_nothing_and_the_size_of_reads_neither() {
    let text = lines(200);
    let gz = gzip(&text);
    let mut expected = read(&text[..]);
    assert_eq!(read(Slow(&text, false)), expected);
    let zipped = read(&gz[..]);
    assert_eq!(read(Slow(&gz, false)), zipped);
    (expected.sha256, expected.bytes) = (zipped.sha256.clone(), zipped.bytes);
    assert_eq!(zipped, expected);
}

#[test]
fn a_last_line_without_its_end_is_a_line() {
    let mut text = lines(3);
    text.pop();
    let report = read(&text[..]);
    assert_eq!((report.lines, report.malformed), (3, 0));
    text.truncate(text.len() - 5);
    let report = read(&text[..]);
    assert_eq!((report.lines, report.malformed, report.malformed_lines[0].line), (3, 1, 3));
    for (file, lines) in [("", 0), ("\n", 1), ("\n\n", 2), ("\r\n\r", 2)] {
        let report = read(file.as_bytes());
        assert_eq!((report.lines, report.malformed), (lines, lines), "{file:?}");
    }
}

#[test]
fn the_readers_error_is_an_error_whatever_it_looks_like() {
    let text = lines(20);
    for file in [text.clone(), gzip(&text), gzip(&text)[..300].to_vec(), Vec::new(), vec![0x1f]] {
        let mut recording = Recording::open(Venue::BinanceSpot, "spot.gz", Failing(&file));
        let error = loop {
            match recording.advance() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("an error was taken for the end"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), error.offset()), (io::ErrorKind::UnexpectedEof, file.len() as u64));
        assert_eq!(error.to_string(), format!("spot.gz: cannot be read on at byte {}", file.len()));
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the disk is gone");
    }
}

#[test]
fn a_sink_that_refuses_stops_the_import() {
    let text = lines(20);
    let mut given = 0;
    let refused = import(Venue::BinanceSpot, "x", &text[..], |_| {
        given += 1;
        if given == 7 { Err("full") } else { Ok(()) }
    });
    assert!(matches!(refused, Err(ImportError::Sink("full"))));
    assert_eq!(given, 7);
}

#[test]
fn a_line_without_end_is_passed_over_in_bounded_memory() {
    // 20 MiB of one line, between two good ones, from some kilobytes of gzip.
    let good = lines(1);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&good).unwrap();
    let (chunk, chunks) = (vec![b'9'; 1 << 20], 20);
    for _ in 0..chunks {
        encoder.write_all(&chunk).unwrap();
    }
    encoder.write_all(b"\n").unwrap();
    encoder.write_all(&good).unwrap();
    let gz = encoder.finish().unwrap();
    let report = check(Venue::BinanceSpot, "x", &gz[..]).unwrap();
    assert_eq!((report.lines, report.malformed, report.by_kind["bookTicker"]), (3, 1, 2));
    let long = &report.malformed_lines[0];
    assert_eq!((long.line, long.offset), (2, good.len() as u64));
    assert_eq!(long.why.to_string(), format!("longer than {LINE_LEN_MAX} bytes"));
}

#[test]
fn the_limit_of_a_line_is_exact() {
    let good = lines(1);
    let line = &good[..good.len() - 1];
    for end in ["\n", "\r\n", ""] {
        for (limit, malformed) in [(line.len(), 0), (line.len() - 1, 1)] {
            let file = [line, end.as_bytes()].concat();
            let mut recording = Recording::open(Venue::BinanceSpot, "x", &file[..]).with_line_len_max(limit);
            while recording.advance().unwrap().is_some() {}
            let report = recording.into_report();
            assert_eq!((report.lines, report.malformed), (1, malformed), "{limit} {end:?}");
        }
    }
    // Far more lines than one read holds, each of them too long, and offsets that still fit.
    let many = good.repeat(5_000);
    let mut recording = Recording::open(Venue::BinanceSpot, "x", &many[..]).with_line_len_max(8);
    assert_eq!(recording.advance().unwrap(), None);
    let report = recording.into_report();
    assert_eq!((report.lines, report.malformed, report.malformed_lines.len()), (5_000, 5_000, MALFORMED_LINES_MAX));
    for (i, line) in report.malformed_lines.iter().enumerate() {
        assert_eq!((line.line, line.offset), (i as u64 + 1, (i * good.len()) as u64));
    }
}

#[test]
fn a_long_line_in_a_cut_file_is_no_line() {
    let mut text = lines(2);
    let whole = text.len() as u64;
    text.extend(vec![b'1'; 1 << 20]);
    let gz = gzip(&text);
    let mut recording = Recording::open(Venue::BinanceSpot, "x", &gz[..gz.len() - 9]).with_line_len_max(1_000);
    while recording.advance().unwrap().is_some() {}
    let report = recording.into_report();
    let cut = report.truncated_at.unwrap();
    assert_eq!((report.lines, report.malformed, cut.line), (2, 0, 3));
    assert_eq!(cut.text_offset, whole + cut.partial_len);
    assert!(cut.partial_len > 1_000);
}

/// SplitMix64: small, and the seed is all there is to print.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

#[test]
fn mutated_lines_are_records_verbatim_or_counted() {
    let seed = 0x5eed_0003;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let text = short_lines(usize::MAX);
    let all: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let interesting = b"\"{}[],:0123456789.-eE \\\n\r\t\0\xff\x80tfn";
    let mut totals = (0, 0, 0);
    for _ in 0..300 {
        let mut file = Vec::new();
        for _ in 0..20 {
            let mut line = all[random.below(all.len())].to_vec();
            for _ in 0..random.below(4) {
                let at = random.below(line.len());
                match random.below(6) {
                    0 => line[at] = random.next() as u8,
                    1 => line[at] = interesting[random.below(interesting.len())],
                    2 => line.insert(at, interesting[random.below(interesting.len())]),
                    3 => drop(line.remove(at)),
                    4 => line.truncate(at.max(1)),
                    _ => {
                        let from = random.below(line.len());
                        let piece = line[from.min(at)..from.max(at)].to_vec();
                        line.splice(at..at, piece);
                    }
                }
                if line.is_empty() {
                    break;
                }
            }
            file.extend(line);
            file.push(b'\n');
        }
        if random.below(3) == 0 {
            file = gzip(&file);
            let len = file.len() - random.below(file.len() / 4);
            file.truncate(len);
        }
        let report = read(&file[..]);
        totals.0 += report.records - report.opaque;
        totals.1 += report.opaque;
        totals.2 += report.malformed;
    }
    println!("{} records, {} verbatim, {} malformed", totals.0, totals.1, totals.2);
    assert!(totals.0 > 1_000 && totals.1 > 100 && totals.2 > 1_000, "a class is missing: {totals:?}");
}

#[test]
fn random_bytes_are_counted() {
    let seed = 0x5eed_0004;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    for round in 0..300 {
        let len = random.below(5_000);
        let mut file: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        if round % 2 == 0 && len >= 4 {
            // Looks like gzip, and is not.
            file[..4].copy_from_slice(&[0x1f, 0x8b, 8, 0]);
        }
        let report = read(&file[..]);
        assert_eq!(report.bytes, len as u64);
        assert_eq!(report.records, 0);
    }
}
