//! The generated messages and services, as the peers name them; see `proto/`.
//!
//! They never go further than the edges of the rooms that talk: [`crate::convert`] turns them into
//! the house's own words and back.

#![allow(missing_docs, clippy::all)]

/// StoreAPI and its sister services (`thanos`).
pub mod thanos {
    include!("generated/thanos.rs");

    /// Who an endpoint is (`thanos.info`).
    pub mod info {
        include!("generated/thanos.info.rs");
    }
}

/// Hints of StoreAPI (`hintspb`).
pub mod hintspb {
    include!("generated/hintspb.rs");
}

/// Remote write 1.x and remote read (`prometheus`).
pub mod prometheus {
    include!("generated/prometheus.rs");
}

/// `io.prometheus`.
pub mod io {
    /// `io.prometheus`.
    pub mod prometheus {
        /// The exposition format (`io.prometheus.client`).
        pub mod client {
            include!("generated/io.prometheus.client.rs");
        }

        /// `io.prometheus.write`.
        pub mod write {
            /// Remote write 2.0 (`io.prometheus.write.v2`).
            pub mod v2 {
                include!("generated/io.prometheus.write.v2.rs");
            }
        }
    }
}

pub use prost_types::{Any, Timestamp};

/// All definitions, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
