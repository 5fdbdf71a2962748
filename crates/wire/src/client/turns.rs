//! The addresses of a host in turns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Looks hosts up as the system does, and puts another address first each time. Begins with any of
/// them, so that many clients do not all begin with the same one.
pub(super) struct Turns(Arc<AtomicUsize>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(any())))
    }
}

/// A number that differs from process to process and from client to client.
fn any() -> usize {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0u8) as usize
}

impl Resolve for Turns {
    fn resolve(&self, name: Name) -> Resolving {
        let turn = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut found: Vec<SocketAddr> = found.collect();
            rotate(&mut found, turn.fetch_add(1, Ordering::Relaxed));
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Addresses come in any order from a name server: sorted, a turn is a turn.
fn rotate(found: &mut [SocketAddr], turn: usize) {
    found.sort_unstable();
    if let Some(by) = turn.checked_rem(found.len()) {
        found.rotate_left(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_turn() {
        let of = |last: u8| SocketAddr::from(([10, 0, 0, last], 0));
        let firsts: Vec<SocketAddr> = (0..4)
            .map(|turn| {
                let mut found = [of(3), of(1), of(2)];
                rotate(&mut found, turn);
                found[0]
            })
            .collect();
        assert_eq!(firsts, [of(1), of(2), of(3), of(1)]);
        rotate(&mut [], 5);
    }
}
