//! who is in the fleet: membership, leases, load signals
