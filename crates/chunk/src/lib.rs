//! chunk encodings, decoded columns, merging and deduplicating them
