//! The `storage` section.

use model::settings;
use model::settings::{Bytes, Duration};

settings! {
    /// What can be set about storage while running.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Storage ("config.StorageConfig") {
        /// The database.
        pub tsdb ("tsdb"): Option<Tsdb>;
        /// Exemplars.
        pub exemplars ("exemplars"): Option<Exemplars>;
    }
}

settings! {
    /// The database.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Tsdb ("config.plain") check(Tsdb::judge) {
        /// How far samples may be behind the newest of their series.
        pub out_of_order_time_window ("out_of_order_time_window"): Duration;
        /// Share of stale series in the head at which they are compacted away; 0 for never.
        pub stale_series_compaction_threshold ("stale_series_compaction_threshold"): f64;
        /// How chunks are encoded.
        pub chunk_encoding ("chunk_encoding"): ChunkEncodings;
        /// How long data is kept.
        pub retention ("retention"): Option<Retention>;
    }
}

settings! {
    /// How chunks are encoded.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ChunkEncodings ("config.ChunkEncodingConfig") {
        /// Floats: `xor`, or `xor2`, which is not supported in use.
        pub floats ("floats"): String;
    }
}

settings! {
    /// How long data is kept. 0 means: as the flags say.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Retention ("config.plain") check(Retention::judge) {
        /// For so long.
        pub time ("time"): Duration;
        /// Up to this many bytes.
        pub size ("size"): Bytes;
        /// Up to this share of the file system, in percent.
        pub percentage ("percentage"): f64;
    }
}

settings! {
    /// Exemplars.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Exemplars ("config.ExemplarsConfig") {
        /// How many are kept; none if it is 0 or less.
        pub max_exemplars ("max_exemplars"): i64;
    }
}

impl Tsdb {
    fn judge(&mut self) -> Result<(), String> {
        match self.chunk_encoding.floats.as_str() {
            "" | "xor" | "xor2" => Ok(()),
            other => Err(format!(
                "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be \
                 omitted entirely, got {other:?}"
            )),
        }
    }
}

impl Retention {
    fn judge(&mut self) -> Result<(), String> {
        if self.size.0 < 0 {
            return Err(format!(
                "'storage.tsdb.retention.size' must be greater than or equal to 0, got {}",
                self.size
            ));
        }
        if !(0.0..=100.0).contains(&self.percentage) {
            return Err(format!(
                "'storage.tsdb.retention.percentage' must be in the range [0, 100], got {}",
                self.percentage
            ));
        }
        Ok(())
    }
}
