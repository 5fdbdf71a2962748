//! What the web configuration asks of each request: extra headers, a rate limit, a user.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::web_config::{Rate, Watched, WebConfig};

/// Puts the web configuration in front of every route.
pub(super) fn wrap(app: Router, web: Arc<Watched>) -> Router {
    let gate = Arc::new(Gate {
        web,
        verdicts: Verdicts::default(),
        one_hash: tokio::sync::Semaphore::new(1),
        bucket: Mutex::new(None),
    });
    app.layer(from_fn_with_state(gate, pass))
}

struct Gate {
    web: Arc<Watched>,
    verdicts: Verdicts,
    /// One password hash at a time: they are slow on purpose, and must not take all cores.
    one_hash: tokio::sync::Semaphore,
    bucket: Mutex<Option<Bucket>>,
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let config = gate.web.current();
    let mut response = if !gate.within_rate(config.rate, Instant::now()) {
        (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n").into_response()
    } else if config.has_users() && !gate.knows(&config, request.headers()).await {
        let mut response = (StatusCode::UNAUTHORIZED, "Unauthorized\n").into_response();
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        response
    } else {
        next.run(request).await
    };
    for (name, value) in &config.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// A hash of no password that anyone knows: an unknown user takes as long as a known one.
const NOBODY: &str = "$2y$10$c9tLOHzrtFJm8mRzvn1EjeN1mL0ugt8YsEFEnBMS2Xl0d3ACAgN2y";

impl Gate {
    async fn knows(&self, config: &WebConfig, headers: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(headers) else {
            return false;
        };
        let known = config.users.get(&user);
        let hash = known.map_or(NOBODY, |h| h.as_str());
        if let Some(verdict) = self.verdicts.get(&user, hash, &password) {
            return verdict;
        }
        // The semaphore is never closed.
        let _turn = self.one_hash.acquire().await;
        if let Some(verdict) = self.verdicts.get(&user, hash, &password) {
            return verdict;
        }
        let (to_check, candidate) = (hash.to_owned(), password.clone());
        let checked =
            tokio::task::spawn_blocking(move || bcrypt::verify(candidate, &to_check)).await;
        let verdict = known.is_some() && matches!(checked, Ok(Ok(true)));
        self.verdicts.put(&user, hash, &password, verdict);
        verdict
    }

    fn within_rate(&self, rate: Option<Rate>, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(|e| e.into_inner());
        let Some(rate) = rate else {
            *bucket = None;
            return true;
        };
        match &mut *bucket {
            Some(bucket) if bucket.rate == rate => bucket.take(now),
            other => other
                .insert(Bucket {
                    rate,
                    tokens: f64::from(rate.burst),
                    at: now,
                })
                .take(now),
        }
    }
}

/// The user that a Basic authorization names, whether the password is right or not.
pub fn user_of(headers: &HeaderMap) -> Option<String> {
    credentials(headers).map(|(user, _)| user)
}

/// User and password of a Basic authorization.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Verdicts of the last few checks, by a keyed 128-bit fingerprint: a password is never kept.
#[derive(Default)]
struct Verdicts {
    keys: [RandomState; 2],
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    good: HashSet<(u64, u64)>,
    bad: HashSet<(u64, u64)>,
    order: VecDeque<(u64, u64)>,
}

const MOST_VERDICTS: usize = 100;

impl Verdicts {
    fn fingerprint(&self, user: &str, hash: &str, password: &str) -> (u64, u64) {
        let [a, b] = &self.keys;
        let key = (user, hash, password);
        (a.hash_one(key), b.hash_one(key))
    }

    fn get(&self, user: &str, hash: &str, password: &str) -> Option<bool> {
        let key = self.fingerprint(user, hash, password);
        let known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        if known.good.contains(&key) {
            return Some(true);
        }
        known.bad.contains(&key).then_some(false)
    }

    fn put(&self, user: &str, hash: &str, password: &str, verdict: bool) {
        let key = self.fingerprint(user, hash, password);
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        if known.order.len() >= MOST_VERDICTS
            && let Some(oldest) = known.order.pop_front()
        {
            known.good.remove(&oldest);
            known.bad.remove(&oldest);
        }
        let set = if verdict {
            &mut known.good
        } else {
            &mut known.bad
        };
        if set.insert(key) {
            known.order.push_back(key);
        }
    }
}

struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed / self.rate.interval.as_secs_f64())
            .min(f64::from(self.rate.burst));
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn verdicts_are_few_and_exact() {
        let verdicts = Verdicts::default();
        for i in 0..300 {
            verdicts.put("u", "h", &i.to_string(), i % 2 == 0);
        }
        assert_eq!(verdicts.get("u", "h", "299"), Some(false));
        assert_eq!(verdicts.get("u", "h", "298"), Some(true));
        assert_eq!(verdicts.get("u", "other hash", "298"), None);
        assert_eq!(verdicts.get("u", "h", "0"), None);
        assert_eq!(verdicts.known.lock().unwrap().order.len(), MOST_VERDICTS);
    }

    #[test]
    fn nobody_takes_as_long_as_anybody() {
        use std::str::FromStr as _;
        assert_eq!(bcrypt::HashParts::from_str(NOBODY).unwrap().get_cost(), 10);
        assert!(matches!(bcrypt::verify("x", NOBODY), Ok(false)));
    }

    #[test]
    fn a_bucket_refills() {
        let start = Instant::now();
        let rate = Rate {
            interval: Duration::from_secs(1),
            burst: 2,
        };
        let mut bucket = Bucket {
            rate,
            tokens: 2.0,
            at: start,
        };
        let after = |s| start + Duration::from_secs(s);
        assert!(bucket.take(start) && bucket.take(start) && !bucket.take(start));
        assert!(bucket.take(after(1)) && !bucket.take(after(1)));
        assert!(bucket.take(after(60)) && bucket.take(after(60)) && !bucket.take(after(60)));
    }

    #[test]
    fn authorization_headers() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
            credentials(&headers)
        };
        let good = Some(("a".to_owned(), "b:c".to_owned()));
        assert_eq!(read("Basic YTpiOmM="), good);
        assert_eq!(read("bAsIc YTpiOmM="), good);
        for bad in ["Basic", "Basic !", "Bearer YTpiOmM=", "Basic YQ=="] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
