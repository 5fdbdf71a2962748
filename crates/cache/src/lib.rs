//! bytes by key, for a while
