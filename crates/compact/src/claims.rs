//! Dividing the work among compactors.
//!
//! For each group the bucket holds one small object, `epimetheus/compact/<group>.json`, that lists who
//! works at which blocks until when. It is only ever changed by compare-and-swap, so of two compactors
//! that want the same blocks one wins. Whoever works extends its claim; a claim that ran out is nobody's.
//! A compactor that was held up past the end of its claim finds out before it lets a block be seen; and
//! if it does not, there are two blocks of the same sources, of which one is garbage. A process that was
//! killed leaves its claims to the next one in its place, which need not wait.
//!
//! Where the provider has no conditional writes, one compactor works alone: it says so in
//! `epimetheus/compact/alone.json`, and another one refuses to start while that is fresh.
//!
//! Neither object lies where Thanos looks for blocks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bucket::{Bucket, Error as BucketError, Put};
use model::time::Clock;
use model::{Cancel, Millis};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::Error;

/// The folder of our own objects.
pub const FOLDER: &str = "epimetheus/compact";

/// How often a lost race is run again.
const ATTEMPTS: u32 = 20;

/// What is known of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Format version.
    pub version: u32,
    /// When a compactor of ours first worked at the group, ms since the Unix epoch: every block that a
    /// compactor makes from then on is ours.
    pub since: Millis,
    /// Who works at what.
    #[serde(default)]
    pub claims: Vec<Claim>,
}

/// Somebody works at some blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Who.
    pub owner: String,
    /// The block that will come of it.
    pub output: String,
    /// The blocks.
    pub inputs: Vec<String>,
    /// Until when it holds unless it is extended, ms since the Unix epoch.
    pub expires: Millis,
}

impl State {
    /// The blocks at which somebody works at `now`.
    pub fn busy(&self, now: Millis) -> impl Iterator<Item = Ulid> + '_ {
        let live = self.claims.iter().filter(move |c| c.expires > now);
        live.flat_map(|c| &c.inputs)
            .filter_map(|text| Ulid::from_string(text).ok())
    }
}

/// How claims are made.
#[derive(Clone)]
pub struct Settings {
    /// Who we are; no two processes have the same.
    pub owner: String,
    /// Where we are, if no other process can be there while we are: the end of our name, and of the names of those
    /// that were there before us. What these left behind is nobody's.
    pub place: Option<String>,
    /// How long a claim holds.
    pub time_to_live: Duration,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
}

/// Makes claims.
pub struct Claims {
    bucket: Arc<Bucket>,
    settings: Settings,
    /// Whether the provider compares before it writes.
    shared: bool,
    /// What was last read or written of each group. A change begins with it: if others came between, the
    /// provider says so.
    known: Mutex<HashMap<String, Known>>,
    /// Held while a state is changed where nobody compares.
    turn: tokio::sync::Mutex<()>,
}

/// A state, and the entity tag of its object.
type Known = (State, Option<String>);

/// A claim that is being extended until it is let go of.
pub struct Held {
    claims: Arc<Claims>,
    group: String,
    output: Ulid,
    lost: Arc<AtomicBool>,
    end: Cancel,
}

impl Claims {
    /// Finds out what the provider can do. Where it cannot compare before it writes, fails if another
    /// compactor is at work.
    pub async fn begin(bucket: Arc<Bucket>, settings: Settings) -> Result<Arc<Self>, Error> {
        let shared = compares(&bucket, &settings.owner).await?;
        let claims = Arc::new(Self {
            bucket,
            settings,
            shared,
            known: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
        });
        if !shared {
            claims.alone().await?;
        }
        Ok(claims)
    }

    /// Whether other compactors may work at the same bucket.
    pub fn shared(&self) -> bool {
        self.shared
    }

    fn now(&self) -> Millis {
        self.settings.clock.now()
    }

    /// Whether this was the name of a process that was here before us, and is no more.
    fn is_former(&self, owner: &str) -> bool {
        let place = self.settings.place.as_ref();
        owner != self.settings.owner && place.is_some_and(|place| owner.ends_with(place))
    }

    /// Forgets the claims that are nobody's at `now`.
    fn forget(&self, state: &mut State, now: Millis) {
        state
            .claims
            .retain(|c| c.expires > now && !self.is_former(&c.owner));
    }

    fn expiry(&self) -> Millis {
        let ttl = self.settings.time_to_live.as_millis() as Millis;
        self.now().saturating_add(ttl)
    }

    fn key(group: &str) -> String {
        format!("{FOLDER}/{group}.json")
    }

    async fn load(&self, key: &str) -> Result<Option<Known>, Error> {
        let (text, etag) = match self.bucket.get_tagged(key).await {
            Ok(got) => got,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let state = serde_json::from_slice(&text).map_err(|e| {
            Error::Refused(format!(
                "{key} is not what a compactor of ours wrote ({e}); remove it to begin anew"
            ))
        })?;
        Ok(Some((state, etag)))
    }

    /// What is known of a group; made if it is new.
    pub async fn state(&self, group: &str) -> Result<State, Error> {
        match self.load(&Self::key(group)).await? {
            Some((mut state, etag)) => {
                self.forget(&mut state, self.now());
                let known = (state.clone(), etag);
                self.known.lock().insert(group.to_owned(), known);
                Ok(state)
            }
            None => self
                .change_from(Some(None), group, |state| Some(state.clone()))
                .await?
                .ok_or_else(contended),
        }
    }

    /// Changes the state of a group, again and again until nobody came between. None if `change` gives
    /// none: then nothing is written.
    async fn change<T>(
        &self,
        group: &str,
        change: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let known = self.known.lock().remove(group);
        self.change_from(known.map(Some), group, change).await
    }

    /// [`Claims::change`], where `known` was the state a while ago (`Some(None)`: there was none).
    async fn change_from<T>(
        &self,
        mut known: Option<Option<Known>>,
        group: &str,
        mut change: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let _turn = match self.shared {
            true => None,
            false => {
                let turn = self.turn.lock().await;
                // Another change may have come before this one.
                known = None;
                Some(turn)
            }
        };
        let key = Self::key(group);
        for attempt in 0..ATTEMPTS {
            let now = self.now();
            let was_known = known.is_some();
            let before = match known.take() {
                Some(known) => known,
                None => self.load(&key).await?,
            };
            let (mut state, how) = match before {
                _ if !self.shared => (before.map(|b| b.0), Put::Overwrite),
                None => (None, Put::Create),
                Some((state, Some(etag))) => (Some(state), Put::Update(etag)),
                Some((_, None)) => {
                    let words = format!("{key} has no entity tag: the bucket cannot be shared");
                    return Err(Error::Refused(words));
                }
            };
            let state = state.get_or_insert_with(|| State {
                version: 1,
                since: now,
                claims: Vec::new(),
            });
            self.forget(state, now);
            let Some(done) = change(state) else {
                if was_known {
                    // By now it may be otherwise.
                    continue;
                }
                return Ok(None);
            };
            let json = serde_json::to_vec(state).map_err(|e| Error::Refused(e.to_string()))?;
            match self.bucket.put(&key, json.into(), how).await {
                Ok(etag) => {
                    if etag.is_some() {
                        let known = (state.clone(), etag);
                        self.known.lock().insert(group.to_owned(), known);
                    }
                    return Ok(Some(done));
                }
                // What was known was old.
                Err(BucketError::Conflict { .. }) if was_known => {}
                Err(BucketError::Conflict { .. }) => {
                    // Not all at the same time again: the name tells them apart.
                    let salt = self.settings.owner.bytes().map(u64::from).sum::<u64>() % 40;
                    let pause = 5 + (salt * u64::from(attempt + 1)) % 100;
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(contended())
    }

    /// Claims blocks. None if somebody else has one of them.
    pub async fn claim(
        self: &Arc<Self>,
        group: &str,
        inputs: &[Ulid],
        output: Ulid,
    ) -> Result<Option<Held>, Error> {
        let wanted: Vec<String> = inputs.iter().map(Ulid::to_string).collect();
        let claim = Claim {
            owner: self.settings.owner.clone(),
            output: output.to_string(),
            inputs: wanted,
            expires: self.expiry(),
        };
        let claimed = self
            .change(group, |state| {
                let taken = state.claims.iter().flat_map(|c| &c.inputs);
                let mut taken = taken.filter(|ulid| claim.inputs.contains(ulid));
                if taken.next().is_some() {
                    return None;
                }
                state.claims.push(claim.clone());
                Some(())
            })
            .await?;
        if claimed.is_none() {
            return Ok(None);
        }
        let held = Held {
            claims: Arc::clone(self),
            group: group.to_owned(),
            output,
            lost: Arc::default(),
            end: Cancel::default(),
        };
        held.keep();
        Ok(Some(held))
    }

    /// Extends a claim. False if it is not there any more.
    async fn extend(&self, group: &str, output: Ulid) -> Result<bool, Error> {
        let (output, expires) = (output.to_string(), self.expiry());
        let owner = &self.settings.owner;
        let extended = self
            .change(group, |state| {
                let ours = |c: &&mut Claim| c.output == output && c.owner == *owner;
                let claim = state.claims.iter_mut().find(ours)?;
                claim.expires = expires;
                Some(())
            })
            .await?;
        Ok(extended.is_some())
    }

    /// Works alone, or fails if somebody else does.
    async fn alone(self: &Arc<Self>) -> Result<(), Error> {
        let key = format!("{FOLDER}/alone.json");
        let read = || async {
            match self.bucket.get(&key).await {
                Ok(text) => Ok(serde_json::from_slice::<Alone>(&text).ok()),
                Err(e) if e.is_not_found() => Ok(None),
                Err(e) => Err(e),
            }
        };
        if let Some(other) = read().await?
            && other.owner != self.settings.owner
            && !self.is_former(&other.owner)
            && other.expires > self.now()
        {
            return Err(Error::Refused(format!(
                "bucket {} has no conditional writes, so compactors cannot share it, and {} is at work on it; stop that one, or wait {} if it was killed",
                self.bucket.name(),
                other.owner,
                model::time::format_duration(other.expires - self.now())
            )));
        }
        self.say_alone(&key).await?;
        // Whoever began at the same time has written by now.
        tokio::time::sleep(Duration::from_millis(200)).await;
        match read().await? {
            Some(us) if us.owner == self.settings.owner => {}
            _ => {
                return Err(Error::Refused(format!(
                    "bucket {} has no conditional writes, so compactors cannot share it, and another one has just begun",
                    self.bucket.name()
                )));
            }
        }
        let claims = Arc::downgrade(self);
        let pause = self.settings.time_to_live / 3;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(claims) = claims.upgrade() else {
                    return;
                };
                if let Err(error) = claims.say_alone(&key).await {
                    tracing::warn!(%error, "cannot tell other compactors that this one is at work");
                }
            }
        });
        Ok(())
    }

    async fn say_alone(&self, key: &str) -> Result<(), Error> {
        let us = Alone {
            owner: self.settings.owner.clone(),
            expires: self.expiry(),
        };
        let json = serde_json::to_vec(&us).map_err(|e| Error::Refused(e.to_string()))?;
        self.bucket.put(key, json.into(), Put::Overwrite).await?;
        Ok(())
    }

    /// Lets another compactor begin at once where only one can work.
    pub async fn end(&self) {
        if !self.shared {
            let key = format!("{FOLDER}/alone.json");
            if let Err(error) = self.bucket.delete(&key).await {
                tracing::warn!(%error, "cannot tell other compactors that this one has stopped");
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Alone {
    owner: String,
    expires: Millis,
}

fn contended() -> Error {
    Error::Refused("too many compactors change the claims of one group at once".into())
}

/// Whether the provider compares before it writes, tried on an object of our own: some take the
/// condition and do not obey it.
async fn compares(bucket: &Bucket, owner: &str) -> Result<bool, Error> {
    let key = format!("{FOLDER}/probe-{owner}");
    let put = |text: &'static str, how| bucket.put(&key, text.into(), how);
    let probe = async {
        let etag = match put("first", Put::Create).await {
            // Who had the name before us was killed here.
            Err(BucketError::Conflict { .. }) => {
                bucket.delete(&key).await?;
                put("first", Put::Create).await?
            }
            other => other?,
        };
        let second = put("second", Put::Create).await;
        let wrong = put(
            "third",
            Put::Update("\"0123456789abcdef0123456789abcdef\"".into()),
        )
        .await;
        let Some(etag) = etag else { return Ok(false) };
        let right = put("fourth", Put::Update(etag)).await;
        let refused = |r: &Result<_, BucketError>| matches!(r, Err(BucketError::Conflict { .. }));
        if let Err(e @ (BucketError::Unavailable { .. } | BucketError::Timeout { .. })) = right {
            return Err(e);
        }
        Ok(refused(&second) && refused(&wrong) && right.is_ok())
    };
    let probed = probe.await;
    bucket.delete(&key).await?;
    match probed {
        Ok(compares) => Ok(compares),
        Err(BucketError::Unsupported(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

impl Held {
    /// Extends the claim until this is dropped.
    fn keep(&self) {
        let claims = Arc::clone(&self.claims);
        let (group, output) = (self.group.clone(), self.output);
        let (lost, end) = (Arc::clone(&self.lost), self.end.clone());
        let pause = claims.settings.time_to_live / 3;
        tokio::spawn(async move {
            while tokio::time::timeout(pause, end.cancelled()).await.is_err() {
                match claims.extend(&group, output).await {
                    Ok(true) => {}
                    Ok(false) => {
                        if !end.is_cancelled() {
                            lost.store(true, Ordering::Release);
                            tracing::warn!(%group, block = %output, "a claim ran out and is gone");
                        }
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%group, block = %output, %error, "a claim cannot be extended");
                    }
                }
            }
        });
    }

    /// Whether it is still ours, and will be for a while.
    pub async fn confirm(&self) -> Result<bool, Error> {
        if self.lost.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.claims.extend(&self.group, self.output).await
    }

    /// Lets go of the blocks.
    pub async fn release(self) {
        self.end.cancel();
        let output = self.output.to_string();
        let released = self
            .claims
            .change(&self.group, |state| {
                state.claims.retain(|c| c.output != output);
                Some(())
            })
            .await;
        if let Err(error) = released {
            tracing::warn!(group = %self.group, %error, "a claim cannot be let go of; it will run out");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
