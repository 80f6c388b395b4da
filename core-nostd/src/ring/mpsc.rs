//! Many producers, one consumer, messages of variable length.
