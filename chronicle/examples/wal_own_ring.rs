//! A service that owns its io_uring and writes ahead through it: requests, replies and the log's writes in one loop.
//!
//! `cargo run -p chronicle --example wal_own_ring`
//!
//! The log is `chronicle_core::wal`'s machine, which does no IO: it says what to write, this program puts that into its own
//! ring beside the receives and sends of its clients' sockets, and reports how it ended. A request is appended when it
//! arrives and answered when it is durable. One thread, one ring, one place where it sleeps; what arrives while a write is on
//! its way shares the next one.
//!
//! ```text
//!   clients ──▶ recv ─┐                              ┌─▶ append ── next_op ─┐
//!                     ├─▶ one completion at a time ──┤                      ├─▶ submit_and_wait
//!   clients ◀── send ─┘                              └─▶ complete ─ durable ┘
//! ```
//!
//! The files are made here by plain calls, which block: a new segment once in [`SEGMENT_LEN`] bytes. A service that minds
//! has a thread make spares ahead. Opening a log that is already there (recovery, taking over from a writer that died) is
//! `storage::wal::Wal`'s work; this one begins an empty log, and in the end `Wal` opens what it wrote.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    on_linux::run()
}

#[cfg(target_os = "linux")]
mod on_linux {
    use chronicle::{
        System,
        core::wal::{AppendError, Config, Header, Machine, Op, OpId, Outcome, Start, SyncBy, layout},
        platform::{File as _, Lock, MemoryOptions, Open, Platform},
        storage::wal::{Options, ReaderOptions, Wal, WalReader},
    };
    use chronicle_platform_linux::{
        LinuxMapMut,
        io_uring::{IoUring, opcode, squeue::Entry, types::Fd},
        wal,
    };
    use std::{
        collections::{BTreeMap, VecDeque},
        fs::{self, File},
        io,
        os::{
            fd::{AsFd, AsRawFd},
            unix::{
                fs::{FileExt, OpenOptionsExt},
                net::UnixDatagram,
            },
        },
        path::{Path, PathBuf},
        sync::Arc,
        thread,
    };

    type Error = Box<dyn std::error::Error>;

    const CLIENTS: usize = 16;
    const REQUESTS: u64 = 250;
    const REQUEST_LEN: usize = 64;
    const SEGMENT_LEN: u64 = 256 << 10;
    const BATCH_LEN: u32 = 32 << 10;

    /// What a completion is of: in the upper half of its user data. The lower half is a client or an operation.
    const RECEIVE: u64 = 1;
    const SEND: u64 = 2;
    const LOG: u64 = 3;

    /// The log's files, in a directory of its own.
    struct Files {
        dir: PathBuf,
        open: BTreeMap<u64, File>,
    }

    impl Files {
        /// A file of zeros at full length, so that later writes change no metadata.
        fn zeros(&self, path: &Path) -> io::Result<()> {
            let file = File::create_new(path)?;
            let zeros = vec![0; 64 << 10];
            for at in (0..SEGMENT_LEN).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
            }
            file.sync_all()
        }

        /// Opens a segment for the ring: past the page cache where that can be.
        fn attach(&mut self, id: u64, path: &Path) -> io::Result<()> {
            let direct =
                fs::OpenOptions::new().write(true).custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32).open(path);
            let file = direct.or_else(|_| fs::OpenOptions::new().write(true).open(path))?;
            self.open.insert(id, file);
            Ok(())
        }

        /// Makes the file at `path` the segment that this header names.
        fn publish(&self, path: &Path, header: &Header) -> io::Result<PathBuf> {
            let header = Header { created_ns: System.now_ns(), ..*header };
            let file = fs::OpenOptions::new().write(true).open(path)?;
            file.write_all_at(&header.to_bytes(), 0)?;
            file.sync_all()?;
            let name = self.dir.join(format!("{:020}.wal", header.segment_id));
            fs::rename(path, &name)?;
            File::open(&self.dir)?.sync_all()?;
            Ok(name)
        }

        fn prepare(&mut self, header: &Header) -> io::Result<()> {
            let path = self.dir.join(format!("next-{:020}.tmp", header.segment_id));
            self.zeros(&path)?;
            let name = self.publish(&path, header)?;
            self.attach(header.segment_id, &name)
        }
    }

    /// The log and the ring that it shares with everything else.
    struct Service {
        ring: IoUring,
        machine: Machine<Arc<LinuxMapMut>>,
        files: Files,
        /// Operations that did not fit into the ring yet.
        entries: VecDeque<Entry>,
        writes: u64,
        /// Held as long as anything is written here.
        _lock: <System as Platform>::File,
    }

    impl Service {
        fn begin(dir: &Path) -> Result<Service, Error> {
            let lock = System.open(&dir.join("writer.lock"), Open::EnsurePrivate)?;
            if !lock.try_lock(Lock::Exclusive)? {
                return Err("another process writes this log".into());
            }
            let mut ring = IoUring::builder();
            let ring = ring.setup_single_issuer().setup_defer_taskrun().build(64).or_else(|_| IoUring::new(64))?;
            wal::supports_wal(&ring)?;
            // A ring outlives its process by what is in flight, and keeps its files open as long: so does the lock then.
            ring.submitter().register_files(&[lock.as_fd().as_raw_fd()])?;
            let config =
                Config { segment_len: SEGMENT_LEN, batch_len: BATCH_LEN, sync: SyncBy::Write, ..Config::default() };
            let len = layout(&config).ok_or("measures that do not fit")?.size();
            let memory = Arc::new(System.memory(len, &MemoryOptions::default())?.map);
            let start = Start {
                wal_id: System.random().to_le_bytes(),
                segment_id: 1,
                first_seq: 1,
                epoch: 1,
                salt_seed: System.random() as u64,
                ..Start::default()
            };
            let machine = Machine::begin(memory, config, &start)?;
            let files = Files { dir: dir.to_path_buf(), open: BTreeMap::new() };
            let mut service = Service { ring, machine, files, entries: VecDeque::new(), writes: 0, _lock: lock };
            // The first segment gets its header and its name when what it begins with is durable.
            let path = dir.join(format!("next-{:020}.tmp", 1));
            service.files.zeros(&path)?;
            service.files.attach(1, &path)?;
            let begun = service.machine.demand_all();
            while !service.machine.is_durable(begun) {
                service.turn(&mut |_, _, _| Err("nobody else uses the ring yet".into()))?;
            }
            service.files.publish(&path, &service.machine.header())?;
            Ok(service)
        }

        /// Everything that the log wants done goes into the ring; then sleeps until anything in it has ended.
        fn turn(&mut self, ended: &mut dyn FnMut(&mut Service, u64, i32) -> Result<(), Error>) -> Result<(), Error> {
            while let Some(op) = self.machine.next_op() {
                match op {
                    Op::Write { segment, .. } | Op::Sync { segment, .. } => {
                        let file = Fd(self.files.open[&segment].as_raw_fd());
                        let entry =
                            wal::entry(&op, file, self.machine.region(), None).ok_or("an operation on files")?;
                        self.entries.push_back(entry.user_data(LOG << 32 | u64::from(op.id().number())));
                        self.writes += 1;
                    }
                    Op::Prepare { op, header } => {
                        let outcome = self.files.prepare(&header).map(|()| Outcome::Done(0));
                        self.machine.complete(op, outcome.unwrap_or_else(failed));
                    }
                    Op::Recycle { .. } => unreachable!("bug: nothing is retired here"),
                }
            }
            while let Some(entry) = self.entries.front() {
                // SAFETY: the log's entries point into the machine's region, which lives until the ring is empty and of which
                // the machine leaves alone what is in flight; the clients' point into buffers that `run` keeps as long.
                if unsafe { self.ring.submission().push(entry) }.is_err() {
                    break;
                }
                self.entries.pop_front();
            }
            self.ring.submit_and_wait(1)?;
            let completions: Vec<_> = self.ring.completion().map(|done| (done.user_data(), done.result())).collect();
            for (of, result) in completions {
                match of >> 32 {
                    LOG => self.machine.complete(OpId::from_number(of as u32), wal::outcome(result)),
                    _ => ended(self, of, result)?,
                }
            }
            match self.machine.poisoned() {
                Some(poison) => Err(poison.into()),
                None => Ok(()),
            }
        }
    }

    fn failed(error: io::Error) -> Outcome {
        Outcome::Failed(error.raw_os_error().unwrap_or_default())
    }

    fn request(client: usize, n: u64) -> [u8; REQUEST_LEN] {
        let mut request = [client as u8; REQUEST_LEN];
        request[..8].copy_from_slice(&n.to_le_bytes());
        request
    }

    /// Asks, waits for the answer, asks again: the seq of each request.
    fn client(number: usize, socket: &UnixDatagram) -> io::Result<Vec<u64>> {
        (0..REQUESTS)
            .map(|n| {
                socket.send(&request(number, n))?;
                let mut seq = [0; 8];
                socket.recv(&mut seq)?;
                Ok(u64::from_le_bytes(seq))
            })
            .collect()
    }

    pub(super) fn run() -> Result<(), Error> {
        if let Err(error) = IoUring::new(8) {
            eprintln!("skipped: no io_uring here: {error}");
            return Ok(());
        }
        let dir = tempfile::tempdir()?;
        let mut service = Service::begin(dir.path())?;
        let pairs = (0..CLIENTS).map(|_| UnixDatagram::pair()).collect::<io::Result<Vec<_>>>()?;
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let clients: Vec<_> =
            theirs.into_iter().enumerate().map(|(n, socket)| thread::spawn(move || client(n, &socket))).collect();

        // Reached through these pointers only, because the kernel writes there.
        let mut requests = vec![[0_u8; REQUEST_LEN]; CLIENTS];
        let requests = requests.as_mut_ptr();
        let mut replies = vec![0_u64; CLIENTS];
        let replies = replies.as_mut_ptr();
        let receive = |n: usize| {
            let buffer = requests.wrapping_add(n).cast();
            opcode::Recv::new(Fd(ours[n].as_raw_fd()), buffer, REQUEST_LEN as u32)
                .build()
                .user_data(RECEIVE << 32 | n as u64)
        };
        let send = |n: usize| {
            opcode::Send::new(Fd(ours[n].as_raw_fd()), replies.wrapping_add(n).cast(), 8)
                .build()
                .user_data(SEND << 32 | n as u64)
        };
        service.entries.extend((0..CLIENTS).map(receive));
        // Requests that found no room, and those that wait until they are durable, oldest first.
        let mut arrived: VecDeque<usize> = VecDeque::new();
        let mut waiting: VecDeque<(u64, usize)> = VecDeque::new();
        let mut answered = 0;
        while answered < CLIENTS as u64 * REQUESTS {
            service.turn(&mut |service, of, result| {
                let n = of as u32 as usize;
                match (of >> 32, result) {
                    (RECEIVE, len) if len == REQUEST_LEN as i32 => arrived.push_back(n),
                    (SEND, 8) => {
                        answered += 1;
                        service.entries.push_back(receive(n));
                    }
                    (_, result) => return Err(format!("client {n}: {result}").into()),
                }
                Ok(())
            })?;
            while let Some(&n) = arrived.front() {
                // SAFETY: one of the `CLIENTS` requests; the receive into it has ended, the next begins after the answer.
                let request = unsafe { requests.wrapping_add(n).read() };
                match service.machine.append(&request) {
                    Ok(seq) => {
                        arrived.pop_front();
                        service.machine.demand(seq);
                        waiting.push_back((seq, n));
                    }
                    Err(AppendError::Full) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            while let Some(&(seq, n)) = waiting.front()
                && seq <= service.machine.durable()
            {
                waiting.pop_front();
                // SAFETY: one of the `CLIENTS` replies; the send from it has ended: this client asked again.
                unsafe { replies.wrapping_add(n).write(seq.to_le()) };
                service.entries.push_back(send(n));
            }
        }
        let writes = service.writes;
        service.machine.close();
        while !service.machine.is_closed() {
            service.turn(&mut |_, of, _| Err(format!("nobody asked for {of}").into()))?;
        }
        let segments = service.files.open.len();
        drop(service);

        let mut expected = BTreeMap::new();
        for (number, client) in clients.into_iter().enumerate() {
            for (n, seq) in client.join().expect("a client's thread")?.into_iter().enumerate() {
                assert_eq!(expected.insert(seq, request(number, n as u64)), None, "seq {seq} was given twice");
            }
        }
        check(dir.path(), &expected)?;
        let requests = CLIENTS as u64 * REQUESTS;
        println!("{requests} requests answered when durable: {writes} writes, {segments} segments");
        assert!(writes < requests, "requests that arrive together share a write");
        assert!(segments > 1, "a log that never began another segment shows too little");
        Ok(())
    }

    /// What was answered is what the log holds, as anybody reads it; and the next writer finds a log that ended in order.
    fn check(dir: &Path, expected: &BTreeMap<u64, [u8; REQUEST_LEN]>) -> Result<(), Error> {
        let mut reader = WalReader::open(&System, dir, 0, ReaderOptions::default())?;
        let mut found = BTreeMap::new();
        while let Some(record) = reader.next()? {
            found.insert(record.seq, <[u8; REQUEST_LEN]>::try_from(record.payload)?);
        }
        assert_eq!(found, *expected);
        let options = Options { segment_len: SEGMENT_LEN, batch_len: BATCH_LEN, ..Options::default() };
        let (wal, recovery) = Wal::open(&System, dir, &options)?;
        assert!(recovery.clean && recovery.last_seq() == expected.last_key_value().map(|(seq, _)| *seq), "{recovery}");
        wal.close()?;
        Ok(())
    }
}
