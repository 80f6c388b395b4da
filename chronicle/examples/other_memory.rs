//! Rings in memory that Chronicle did not make: huge pages of one's own, and a device's buffer.
//!
//! `cargo run -p chronicle --example other_memory`
//!
//! A [`Region`] is a promise about bytes, not about who got them. Here are two: pages mapped by hand, as large as the
//! machine gives them, and a part of a buffer as drivers of network cards that bypass the kernel hand them out: pinned, at
//! a known address on the bus, lent for as long as a handle lives. A thread stands in for the card.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    on_linux::run()
}

#[cfg(target_os = "linux")]
mod on_linux {
    use chronicle::core::{
        REGION_ALIGN, Region, RegionMut,
        ring::spsc::{self, Consumer, Producer, PushError, Spec},
    };
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
    use std::{ops::Range, ptr::NonNull, sync::Arc};

    const HUGE_PAGE: usize = 2 << 20;

    /// Anonymous pages of 2 MiB, or where the machine has none reserved, of any size with the advice to join them.
    struct HugePages {
        base: NonNull<u8>,
        len: usize,
        is_reserved: bool,
    }

    impl HugePages {
        /// At least `len` bytes of zeros.
        fn new(len: usize) -> rustix::io::Result<Self> {
            let len = len.next_multiple_of(HUGE_PAGE);
            let (access, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            // SAFETY: at an address of the kernel's choice, so nothing that is there is replaced.
            let reserved = unsafe {
                mmap_anonymous(std::ptr::null_mut(), len, access, private | MapFlags::HUGETLB | MapFlags::POPULATE)
            };
            let (base, is_reserved) = match reserved {
                Ok(base) => (base, true),
                // SAFETY: as above.
                Err(_) => (unsafe { mmap_anonymous(std::ptr::null_mut(), len, access, private) }?, false),
            };
            let base = NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?;
            let pages = HugePages { base, len, is_reserved };
            if !is_reserved {
                // Advice that a kernel without such pages refuses changes nothing.
                // SAFETY: the range is the mapping just made.
                _ = unsafe { madvise(pages.base.as_ptr().cast(), pages.len, Advice::LinuxHugepage) };
            }
            Ok(pages)
        }
    }

    impl Drop for HugePages {
        fn drop(&mut self) {
            // SAFETY: mapped by `new`, whole, and nobody has a window of it any more: windows borrow the value.
            if let Err(error) = unsafe { munmap(self.base.as_ptr().cast(), self.len) } {
                eprintln!("unmap {} bytes: {error}", self.len);
            }
        }
    }

    // SAFETY: the mapping is the process's, not a thread's, and all that the value offers is a region's windows.
    unsafe impl Send for HugePages {}
    // SAFETY: as above.
    unsafe impl Sync for HugePages {}

    // SAFETY: the kernel aligns a mapping to a page, more than 128; it stays mapped, readable and writable, at its length
    // and its place until the drop; nobody else has the pages, which are private and anonymous, and `base` is private
    // to this type.
    unsafe impl Region for HugePages {
        fn base(&self) -> NonNull<u8> {
            self.base
        }
        fn len(&self) -> usize {
            self.len
        }
    }

    // SAFETY: as above.
    unsafe impl RegionMut for HugePages {}

    /// A card's memory: pinned pages of which it knows the addresses, handed out in parts.
    struct Card {
        pages: HugePages,
    }

    /// A part of a card's memory. While it lives the pages do, and the part is nobody else's.
    struct DmaBuffer {
        card: Arc<HugePages>,
        part: Range<usize>,
    }

    impl Card {
        /// A card with so many bytes; whether they could be pinned.
        fn open(len: usize) -> rustix::io::Result<(Self, bool)> {
            let pages = HugePages::new(len)?;
            // A card writes by addresses of the machine's, so pages must stay where they are. Real drivers have the kernel
            // pin them (VFIO, ibv_reg_mr), which fails where this does: at the limit of locked memory.
            // SAFETY: the range is a mapping of ours, which unlocks itself when it goes.
            let is_pinned = unsafe { mlock(pages.base.as_ptr().cast(), pages.len) }.is_ok();
            Ok((Card { pages }, is_pinned))
        }

        /// Splits the card's memory into buffers of `len` bytes at least.
        fn buffers(self, len: usize) -> Vec<DmaBuffer> {
            let len = len.next_multiple_of(REGION_ALIGN);
            let pages = Arc::new(self.pages);
            let (mut buffers, mut given) = (Vec::new(), 0);
            while pages.len - given >= len {
                buffers.push(DmaBuffer { card: pages.clone(), part: given..given + len });
                given += len;
            }
            buffers
        }
    }

    // SAFETY: the pages are as `HugePages` promises for as long as the handle on them lives, which is here; `buffers`, the
    // only place that makes one, gives no byte to two of them, at multiples of 128 and inside the pages. A card that
    // writes there is what `Region` calls a peer: it may do as it likes.
    unsafe impl Region for DmaBuffer {
        fn base(&self) -> NonNull<u8> {
            // SAFETY: the part is inside the pages.
            unsafe { self.card.base.add(self.part.start) }
        }
        fn len(&self) -> usize {
            self.part.len()
        }
    }

    // SAFETY: as above, and the pages are writable.
    unsafe impl RegionMut for DmaBuffer {}

    const CAPACITY: usize = 1 << 16;
    const MESSAGES: u64 = 20_000;

    pub(super) fn run() -> Result<(), Box<dyn std::error::Error>> {
        let pages = HugePages::new(spsc::len(CAPACITY).ok_or("a capacity")?)?;
        println!("{} bytes, {}", pages.len, if pages.is_reserved { "huge pages" } else { "no huge pages reserved" });
        stream(&pages)?;

        let (card, is_pinned) = Card::open(4 * CAPACITY)?;
        println!(
            "a card's {} bytes, {}",
            card.pages.len,
            if is_pinned { "pinned" } else { "not pinned: see ulimit -l" }
        );
        let buffers = card.buffers(spsc::len(CAPACITY).ok_or("a capacity")?);
        assert!(buffers.len() > 1);
        // The card is gone by name; its pages live as long as the last buffer.
        for buffer in buffers.iter().take(2) {
            stream(buffer)?;
        }
        println!("{MESSAGES} messages through each of 3 rings");
        Ok(())
    }

    /// One thread as the card, one as the program.
    fn stream<R: RegionMut + Sync>(region: &R) -> Result<(), Box<dyn std::error::Error>> {
        spsc::format(region, &Spec { capacity: CAPACITY, ..Spec::default() })?;
        let mut producer = Producer::attach(region)?;
        let mut consumer = Consumer::attach(region)?;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..MESSAGES {
                    while let Err(error) = producer.push(&n.to_le_bytes()) {
                        assert!(matches!(error, PushError::Full { .. }), "{error}");
                        std::thread::yield_now();
                    }
                }
            });
            let mut taken = 0;
            while taken < MESSAGES {
                while let Some(frame) = consumer.step()? {
                    assert_eq!(frame.payload.u64_at(0), Some(taken));
                    taken += 1;
                }
                consumer.release();
                std::thread::yield_now();
            }
            Ok(())
        })
    }
}
