//! A tokio service that answers when its log is durable: many connections, one log, no thread blocked.
//!
//! `cargo run -p chronicle --example wal_tokio`
//!
//! Each connection appends its request and awaits [`Wal::commit_async`]; requests that wait at the same time share a write.
//! The log needs no runtime and knows none: one of its own threads finishes what futures wait for.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(on_linux::run())
}

#[cfg(target_os = "linux")]
mod on_linux {
    use chronicle::{
        System,
        storage::wal::{AppendError, Options, ReaderOptions, Wal, WalReader},
    };
    use std::{collections::BTreeMap, io, sync::Arc};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        task,
    };

    type Error = Box<dyn std::error::Error + Send + Sync>;

    const CLIENTS: u64 = 32;
    const REQUESTS: u64 = 40;
    const REQUEST_LEN: usize = 24;

    /// Answers a connection's requests with the numbers under which they are durable.
    async fn serve(wal: Arc<Wal<System>>, mut stream: TcpStream) -> Result<(), Error> {
        let mut request = [0; REQUEST_LEN];
        loop {
            match stream.read_exact(&mut request).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let seq = loop {
                match wal.try_append(&request) {
                    Ok(seq) => break seq,
                    // Everything in memory is on its way to the disk: others first.
                    Err(AppendError::Full) => task::yield_now().await,
                    Err(error) => return Err(error.into()),
                }
            };
            wal.commit_async(seq).await?;
            stream.write_all(&seq.to_le_bytes()).await?;
        }
    }

    fn request(client: u64, n: u64) -> [u8; REQUEST_LEN] {
        let mut request = [0x5a; REQUEST_LEN];
        request[..8].copy_from_slice(&client.to_le_bytes());
        request[8..16].copy_from_slice(&n.to_le_bytes());
        request
    }

    /// Asks, waits for the answer, asks again: the numbers of its requests.
    async fn client(address: std::net::SocketAddr, client: u64) -> Result<Vec<u64>, Error> {
        let mut stream = TcpStream::connect(address).await?;
        let mut seqs = Vec::new();
        for n in 0..REQUESTS {
            stream.write_all(&request(client, n)).await?;
            let mut seq = [0; 8];
            stream.read_exact(&mut seq).await?;
            seqs.push(u64::from_le_bytes(seq));
        }
        Ok(seqs)
    }

    pub(super) async fn run() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let options = Options { segment_len: 1 << 20, batch_len: 64 << 10, ..Options::default() };
        let (wal, recovery) = Wal::open(&System, dir.path(), &options)?;
        println!("{recovery}; {}", wal.mode());
        let wal = Arc::new(wal);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let clients: Vec<_> = (0..CLIENTS).map(|number| task::spawn(client(address, number))).collect();
        let mut served = Vec::new();
        for _ in 0..CLIENTS {
            let (stream, _) = listener.accept().await?;
            served.push(task::spawn(serve(wal.clone(), stream)));
        }
        let mut expected = BTreeMap::new();
        for (number, client) in clients.into_iter().enumerate() {
            for (n, seq) in client.await?.map_err(|error| error.to_string())?.into_iter().enumerate() {
                let request = request(number as u64, n as u64);
                assert_eq!(expected.insert(seq, request), None, "seq {seq} was given twice");
            }
        }
        for connection in served {
            connection.await?.map_err(|error| error.to_string())?;
        }
        let stats = wal.stats();
        Arc::into_inner(wal).ok_or("every connection is closed")?.close()?;

        // What was answered is what anybody reads.
        let mut reader = WalReader::open(&System, dir.path(), 0, ReaderOptions::default())?;
        let mut found = BTreeMap::new();
        while let Some(record) = reader.next()? {
            found.insert(record.seq, <[u8; REQUEST_LEN]>::try_from(record.payload)?);
        }
        assert_eq!(found, expected);
        println!("{} requests answered when durable: {} writes", found.len(), stats.batches);
        assert!(stats.batches < CLIENTS * REQUESTS, "requests that wait at the same time share a write");
        Ok(())
    }
}
