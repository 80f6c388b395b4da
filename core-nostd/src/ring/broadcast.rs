//! One writer that nobody stops, many readers.
