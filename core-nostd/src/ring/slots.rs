//! One producer, one consumer, values of one type.
