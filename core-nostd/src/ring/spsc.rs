//! One producer, one consumer, messages of variable length.
