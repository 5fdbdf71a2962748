//! Relabelling rules.
