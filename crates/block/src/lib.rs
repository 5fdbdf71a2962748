//! the immutable block, byte for byte: read, write, merge
