//! plan, merge, downsample, retain and clean what lies in the bucket
