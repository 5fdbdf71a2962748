//! What was asked of the server.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;

/// How many single requests are remembered; totals go on beyond.
const REMEMBERED: usize = 200_000;

/// An operation, as it can be told from method and query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "S3's own names")]
pub enum Op {
    Get,
    Head,
    Put,
    Copy,
    Delete,
    BulkDelete,
    List,
    CreateMultipart,
    UploadPart,
    CompleteMultipart,
    AbortMultipart,
    Other,
}

/// One request that was answered (or left unanswered by a fault).
#[derive(Clone, Debug)]
pub struct Request {
    /// What was asked.
    pub op: Op,
    /// Of which key; for lists the prefix.
    pub key: String,
    /// The `Range` header, if any.
    pub range: Option<String>,
    /// HTTP status; 0 if there was no answer.
    pub status: u16,
    /// Length of the request's body.
    pub bytes_in: u64,
    /// Length of the answer's body as announced.
    pub bytes_out: u64,
    /// When it arrived.
    pub start: Instant,
    /// When its answer was ready to be sent.
    pub end: Instant,
}

/// Sums over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many.
    pub requests: u64,
    /// Those answered with a status of 400 or more, or not at all.
    pub failed: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of answers' bodies.
    pub bytes_out: u64,
}

#[derive(Debug, Default)]
struct Inner {
    totals: BTreeMap<Op, Totals>,
    log: Vec<Request>,
}

/// Counts requests by operation and key.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Inner>);

impl Counters {
    pub(crate) fn record(&self, request: Request) {
        let mut inner = self.0.lock();
        let totals = inner.totals.entry(request.op).or_default();
        totals.requests += 1;
        totals.failed += u64::from(request.status == 0 || request.status >= 400);
        totals.bytes_in += request.bytes_in;
        totals.bytes_out += request.bytes_out;
        if inner.log.len() < REMEMBERED {
            inner.log.push(request);
        }
    }

    /// Forgets everything.
    pub fn reset(&self) {
        *self.0.lock() = Inner::default();
    }

    /// Sums of one operation.
    pub fn of(&self, op: Op) -> Totals {
        self.0.lock().totals.get(&op).copied().unwrap_or_default()
    }

    /// Sums of all operations.
    pub fn all(&self) -> Totals {
        let mut sum = Totals::default();
        for t in self.0.lock().totals.values() {
            sum.requests += t.requests;
            sum.failed += t.failed;
            sum.bytes_in += t.bytes_in;
            sum.bytes_out += t.bytes_out;
        }
        sum
    }

    /// How many remembered requests were `op` on keys that begin with `prefix`.
    pub fn requests(&self, op: Op, prefix: &str) -> u64 {
        let inner = self.0.lock();
        let hits = inner.log.iter();
        hits.filter(|r| r.op == op && r.key.starts_with(prefix))
            .count() as u64
    }

    /// The remembered requests, in order of their answers.
    pub fn log(&self) -> Vec<Request> {
        self.0.lock().log.clone()
    }

    /// The length of the longest chain of remembered requests of which each began after the one
    /// before had ended: an upper bound of the dependent round trips. It means something once
    /// latency is injected, which makes independent requests overlap.
    pub fn rounds(&self) -> usize {
        let mut spans: Vec<_> = {
            let inner = self.0.lock();
            inner.log.iter().map(|r| (r.end, r.start)).collect()
        };
        spans.sort_unstable();
        let mut rounds = 0;
        let mut busy_until: Option<Instant> = None;
        for (end, start) in spans {
            if busy_until.is_none_or(|until| start >= until) {
                rounds += 1;
                busy_until = Some(end);
            }
        }
        rounds
    }
}
