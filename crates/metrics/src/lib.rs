//! our own metrics: registry and encoders
