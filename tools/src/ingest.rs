//! A venue's raw queue and what is recorded into it; what `import`, `feed` and the demo share.
//!
//! The raw queue requires the reader `recorder`. Whoever writes runs the recorder too when nobody else does, so that
//! ended segments are kept as files and their memory is used again.

use crate::run::{Failure, chain};
use chronicle::{
    Append, System,
    feed::{Format, Look, Parsed, Recorded, UnknownVenue, look, unpack},
    platform::Platform,
    protocol::{Head, Source, type_id},
    storage::{
        queue::{Publisher, PublisherOptions, Queue, Refused},
        raw::{RawCursor, address_before},
        recorder,
        root::{Name, Root},
    },
};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

/// A file to be imported: on disk, or standard input, put aside because it is read more than once.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) len: u64,
    file: File,
}

impl Input {
    /// `-` is standard input.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let (name, mut file) = if path == Path::new("-") {
            let mut aside = tempfile::tempfile()?;
            io::copy(&mut io::stdin().lock(), &mut aside)?;
            aside.flush()?;
            ("-".to_owned(), aside)
        } else {
            let file = File::open(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            if file.metadata()?.is_dir() {
                return Err(Failure::Usage(format!("{}: is a directory, not a recording", path.display())));
            }
            (crate::run::name_of(path), file)
        };
        let len = file.seek(SeekFrom::End(0))?;
        Ok(Input { name, len, file })
    }

    /// From the start, buffered.
    pub(crate) fn reader(&mut self) -> Result<impl Read + '_, Failure> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(io::BufReader::with_capacity(1 << 16, &mut self.file))
    }

    /// What its first bytes say it is.
    pub(crate) fn look(&mut self, format: Option<Format>) -> Result<Look, Failure> {
        Ok(look(format, self.reader()?)?)
    }

    /// A reader of its records.
    pub(crate) fn recorded(
        &mut self,
        format: Format,
        venue: &Name,
        bar: &ProgressBar,
    ) -> Result<Recorded<impl Read + '_>, Failure> {
        let name = self.name.clone();
        let opened = Recorded::open(format, venue.as_str(), name, bar.wrap_read(self.reader()?));
        opened.map_err(|unknown: UnknownVenue| Failure::Usage(unknown.to_string()))
    }

    /// Bytes of its text, or `max` if it has as many; of a damaged file, what comes out.
    pub(crate) fn text_len(&mut self, max: u64) -> Result<u64, Failure> {
        let mut total = 0;
        self.text(max, |chunk| total += chunk.len() as u64)?;
        Ok(total)
    }

    /// Lines of its text; of a damaged file, those that come out.
    pub(crate) fn line_count(&mut self) -> Result<u64, Failure> {
        let mut total = 0;
        self.text(u64::MAX, |chunk| total += chunk.iter().filter(|byte| **byte == b'\n').count() as u64)?;
        Ok(total)
    }

    /// The first `max` bytes of its text, unpacked; the damage of a damaged file is told by who imports it.
    fn text(&mut self, max: u64, mut each: impl FnMut(&[u8])) -> Result<(), Failure> {
        let mut text = unpack(self.reader()?);
        let mut chunk = vec![0; 1 << 16];
        let mut left = max;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            match text.read(&mut chunk[..most]) {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    each(&chunk[..n]);
                    left -= n as u64;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn sha256(&mut self) -> Result<[u8; 32], Failure> {
        let mut reader = self.reader()?;
        let mut digest = Sha256::new();
        let mut chunk = vec![0; 1 << 16];
        loop {
            match reader.read(&mut chunk)? {
                0 => return Ok(digest.finalize().into()),
                n => digest.update(&chunk[..n]),
            }
        }
    }
}

/// Opens a venue's raw queue for writing; makes it, and the root, where there is none.
pub(crate) fn open_raw(
    system: &System,
    root: &Root,
    venue: &Name,
    mut options: PublisherOptions,
) -> Result<Publisher<System>, Failure> {
    let path = root.raw_queue(venue);
    system.create_dirs(path.parent().unwrap_or(&path))?;
    // The root itself, also where all its tiers lie elsewhere.
    system.create_dirs(&root.state)?;
    options.required.push(recorder::RECORDER.to_owned());
    Ok(Queue::publisher(system, &path, options)?)
}

/// The writing end of a venue's raw stream.
pub(crate) struct RawStream<'a> {
    system: &'a System,
    root: &'a Root,
    venue: Name,
    publisher: Publisher<System>,
    buffer: Vec<u8>,
    appended: u64,
}

impl<'a> RawStream<'a> {
    pub(crate) fn open(
        system: &'a System,
        root: &'a Root,
        venue: Name,
        options: PublisherOptions,
    ) -> Result<Self, Failure> {
        let publisher = open_raw(system, root, &venue, options)?;
        Ok(Self::of(system, root, venue, publisher))
    }

    /// The stream whose queue is open already.
    pub(crate) fn of(system: &'a System, root: &'a Root, venue: Name, publisher: Publisher<System>) -> Self {
        RawStream { system, root, venue, publisher, buffer: Vec::new(), appended: 0 }
    }

    /// Says which file the records that follow come from.
    pub(crate) fn source(&mut self, name: &str, sha256: [u8; 32], ingest_ns: u64) -> Result<(), Failure> {
        let source = Source { head: Head { ingest_ns, ..Head::default() }, name, sha256: Some(sha256) };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(source.encoded_len(), 0);
        let len = source.encode(&mut buffer)?;
        let append = Append { time_ns: ingest_ns, type_id: type_id::SOURCE, flags: 0 };
        let outcome = self.append(append, &buffer[..len]);
        self.buffer = buffer;
        outcome.map(drop)
    }

    pub(crate) fn record(&mut self, parsed: Parsed<'_>) -> Result<u64, Failure> {
        let append = Append { time_ns: parsed.ingest_ns, type_id: parsed.type_id, flags: 0 };
        self.append(append, parsed.payload)
    }

    /// Appends a record, as soon as the readers that the queue requires let it.
    pub(crate) fn append(&mut self, append: Append, payload: &[u8]) -> Result<u64, Failure> {
        loop {
            match self.publisher.append_wait(append, payload, Duration::from_millis(200)) {
                Ok(seq) => {
                    self.appended += 1;
                    return Ok(seq);
                }
                // Every segment is in use until the recorder has kept it.
                Err(Refused::QueueFull { .. } | Refused::NotReady) => self.record_ended()?,
                Err(refused) => return Err(self.refused(refused)),
            }
        }
    }

    /// A refusal that waiting does not end, with what the system said.
    fn refused(&self, refused: Refused) -> Failure {
        let why = self.publisher.last_trouble().map_or_else(String::new, |trouble| format!(": {}", chain(&trouble)));
        Failure::Problem(format!("{refused}{why}"))
    }

    /// Frames appended so far.
    pub(crate) fn appended(&self) -> u64 {
        self.appended
    }

    /// The venue whose stream it is.
    pub(crate) fn venue(&self) -> &Name {
        &self.venue
    }

    /// The seq that the next frame will have.
    pub(crate) fn next_seq(&self) -> u64 {
        self.publisher.next_seq()
    }

    /// Just before the next frame.
    pub(crate) fn address(&self) -> Result<Option<RawCursor>, Failure> {
        Ok(address_before(self.system, self.root, &self.venue, self.next_seq())?)
    }

    /// Makes what was appended durable, as far as the hot tier's medium is.
    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        self.publisher.sync()?;
        Ok(())
    }

    /// Runs the recorder unless somebody else does.
    pub(crate) fn record_ended(&self) -> Result<(), Failure> {
        match recorder::run(self.system, self.root, &self.venue) {
            Ok(_) | Err(chronicle::storage::Error::Locked { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the current segment, so that everything is on its way to the raw archive, and lets go of the queue.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            match self.publisher.roll() {
                Ok(()) => break,
                Err(Refused::NotReady | Refused::QueueFull { .. }) if tries < 500 => {
                    tries += 1;
                    self.record_ended()?;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(refused) => return Err(self.refused(refused)),
            }
        }
        self.publisher.sync()?;
        self.record_ended()?;
        self.publisher.close()?;
        Ok(())
    }
}
