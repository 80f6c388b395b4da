//! The refinery: raw venue streams into order books, partitioned by day.
//!
//! Raw frames are what a venue sent, in the order in which it came. Refined, they are partitions: one file per (venue,
//! symbol, UTC date, stream), whose books follow the venue's sequence rules, whose gaps are marked, whose minutes have a
//! snapshot each, and whose bytes are the same whenever they are made again from the same raw frames.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`book`] | one exact order book |
//! | [`orders`] | one exact order book, order by order |
//! | [`venue`] | how each venue numbers its book events |
//! | [`oddity`] | what a venue's book says that a book should not, counted |
//! | [`refinery`] | the state machine: raw frames in, partition writes out |
//! | [`refine`] | the files around it: a root's raw streams into its partitions, from checkpoint to checkpoint |
//! | [`report`] | what refining found |
//! | [`symbols`] | the table that says who a symbol is, and when |
//! | [`query`] | the book at a moment, and its minutes, from the partitions |
//! | [`features`] | numbers that follow from a book as it changes: a trait, and those that ship |
//! | [`records`] | one stream's records over days and tiers |
//! | [`replay`] | many streams merged into one, in the order in which they came |
//! | [`walk`] | a day's book step by step, from the partitions |
//! | [`quality`] | what a root's days are worth: coverage, gaps, crossed time, rates |
//!
//! What this crate never does: it reads no clock but the frames', parses no venue's text, never rounds a number, and
//! drops no record without counting it. It contains no unsafe code.

#![forbid(unsafe_code)]

pub mod book;
mod checkpoint;
pub mod error;
pub mod features;
pub mod oddity;
pub mod orders;
pub mod quality;
pub mod query;
pub mod records;
pub mod refine;
pub mod refinery;
pub mod replay;
pub mod report;
pub mod symbols;
pub mod venue;
pub mod walk;

pub use error::{Error, Result};
