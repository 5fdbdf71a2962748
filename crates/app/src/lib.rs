//! flags, roles, wiring, lifecycle
