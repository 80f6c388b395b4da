//! A local exchange for tests and the demo: real sockets, a matching engine, misbehaviour on request.
//!
//! ```text
//! crowd (seeded) ──▶ matching engine ──▶ depth, trades, tickers ──▶ WebSocket ──▶ feed
//! strategies ──HTTP──▶   │        └────▶ books ──────────────────▶ REST ───────▶ feed
//!                        └─▶ /local/book, /local/orders: its own truth ─────────▶ whoever checks
//! ```
//!
//! It is a process of its own, reached over its TCP port and in no other way, and it speaks a venue's wire format:
//! [`venue::Venue`] says whose. [`server::Running`] is the same on a thread, for tests. What it is asked to do wrong is
//! under "Misbehaviour" below.
//!
//! What it is for: to show that a feed's books are right, gaps, reconnects and lies included, against a truth that the
//! feed had no hand in. For that reason it uses no other crate of this workspace.
//!
//! What it never does: pretend to be a model of prices, check signatures, or listen beyond loopback unasked.
#![forbid(unsafe_code)]

pub mod decimal;
mod faults;
mod floor;
pub mod flow;
pub mod market;
pub mod matching;
pub mod orders;
mod outbox;
mod play;
mod query;
pub mod random;
pub mod server;
pub mod simulation;
pub mod snapshot;
pub mod venue;
pub mod wire;
