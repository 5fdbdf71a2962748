//! the mutable head: appends, WAL, cutting blocks, retention
