//! Venues' words: events, books and answers as text. Everything here is a function from values to text.

pub mod binance;
pub mod kraken;
