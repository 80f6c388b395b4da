//! The bus: processes on one host that find each other by the file system, in whatever order they start and die.
//!
//! A process *registers* what it writes: a venue's raw stream, a refined stream, a strategy's orders. The registration is
//! a directory with the queues, a `LEASE` whose kernel lock says that the process lives, and a `READY` that says that its
//! queues may be opened. Others *discover* it: a first scan, then what the system tells of changes, and a rescan now and
//! then that finds what was not told. Nobody has to be there first; there is no broker and no port.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`layout`] | which directory is whose: [`Layout`], [`Entry`] |
//! | [`lease`], [`ready`], [`owner`] | the files of a registration, and what their states mean |
//! | [`registration`] | registering, renewing, leaving: [`Registration`] |
//! | [`look`](mod@look), [`sweep`](mod@sweep) | one look at an entry; removing what the dead left |
//! | [`discovery`], [`watch`] | who is there, and being told of changes: [`Discovery`] |
//! | [`message`], [`typed`] | records of fixed length, and queues of one of them: [`Publisher`], [`Subscriber`] |
//! | [`duplex`] | two processes that talk to each other: [`Duplex`] |
//! | [`fan_in`] | many queues as one stream, by time: [`FanIn`] |
//! | [`orders`] | what strategies and the router say to each other |
//! | [`ends`] | who sends orders and who answers them: [`StrategyEnd`], [`RouterEnd`] |
//! | [`late`] | a snapshot, then the live stream: [`LateJoiner`] |
//! | [`subscriber_discovery`] | whether somebody writes the queue that one reads: [`SubscriberDiscovery`] |
//!
//! Never here: a process that is killed, a queue that is removed, a payload that is looked into. Unread orders are data:
//! they outlive who wrote them.
#![forbid(unsafe_code)]

pub mod discovery;
pub mod duplex;
pub mod ends;
pub mod error;
pub mod fan_in;
pub mod late;
pub mod layout;
pub mod lease;
pub mod look;
pub mod message;
pub mod orders;
pub mod owner;
pub mod ready;
pub mod registration;
pub mod subscriber_discovery;
pub mod sweep;
pub mod typed;
pub mod watch;

pub use discovery::{Change, Discovery, DiscoveryCounters, DiscoveryOptions, Event, LostReason};
pub use duplex::Duplex;
pub use ends::{RouterEnd, StrategyEnd};
pub use error::{Error, ErrorKind, Result};
pub use fan_in::FanIn;
pub use late::LateJoiner;
pub use layout::{Entry, Kind, Layout};
pub use lease::{Lease, Owner};
pub use look::{State, look};
pub use message::Message;
pub use ready::Ready;
pub use registration::{Predecessor, Registration, RegistrationOptions};
pub use subscriber_discovery::SubscriberDiscovery;
pub use sweep::{Swept, SweptAll, sweep, sweep_entry};
pub use typed::{Publisher, Subscriber};
