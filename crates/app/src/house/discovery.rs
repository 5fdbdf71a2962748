//! Takes what discovery finds to the scrape manager.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use discovery::{Found, Group, ManagerOptions};
use metrics::Registry;
use scrape::config::ScrapeConfig;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

/// The targets of all jobs: found, and handed to the loops.
pub struct Targets {
    finder: discovery::Manager,
    manager: Arc<scrape::Manager>,
    handed: Arc<Mutex<Handed>>,
    forwarding: JoinHandle<()>,
}

/// What the scrape manager was given last, by job: only what changed is given again.
#[derive(Default)]
struct Handed(BTreeMap<Arc<str>, Arc<Vec<Arc<Group>>>>);

impl Handed {
    async fn hand(&mut self, found: Found, manager: &scrape::Manager) {
        for (job, groups) in found.iter() {
            let same = self.0.get(job).is_some_and(|old| Arc::ptr_eq(old, groups));
            if !same {
                manager.sync(job, groups.to_vec()).await;
            }
        }
        self.0 = (*found).clone();
    }
}

impl Targets {
    /// Hands targets to `manager`, changes at most every `throttle`.
    pub fn new(
        manager: Arc<scrape::Manager>,
        registry: &Registry,
        throttle: Duration,
    ) -> Result<Self> {
        let options = ManagerOptions {
            reload_interval: throttle,
        };
        let finder = discovery::Manager::new("scrape", registry, options)?;
        let handed = Arc::<Mutex<Handed>>::default();
        let forwarding = tokio::spawn(forward(
            finder.subscribe(),
            Arc::clone(&manager),
            Arc::clone(&handed),
        ));
        Ok(Self {
            finder,
            manager,
            handed,
            forwarding,
        })
    }

    /// The scrape manager, which reports targets and metadata.
    pub fn manager(&self) -> Arc<scrape::Manager> {
        Arc::clone(&self.manager)
    }

    /// Takes over the jobs of a configuration.
    pub async fn apply(&self, jobs: &[ScrapeConfig]) -> Result<()> {
        // Nothing is handed over between the old jobs and the new ones.
        let mut handed = self.handed.lock().await;
        self.manager.apply(jobs).await?;
        self.finder.apply(
            jobs.iter()
                .map(|job| (job.job_name.as_str(), &job.discovery)),
        );
        // A pool may be new although its groups are not.
        *handed = Handed::default();
        let found = Arc::clone(&self.finder.subscribe().borrow());
        handed.hand(found, &self.manager).await;
        Ok(())
    }

    /// Ends all loops.
    pub async fn stop(&self) {
        self.forwarding.abort();
        self.manager.stop().await;
    }
}

async fn forward(
    mut found: watch::Receiver<Found>,
    manager: Arc<scrape::Manager>,
    handed: Arc<Mutex<Handed>>,
) {
    while found.changed().await.is_ok() {
        let mut handed = handed.lock().await;
        let now = Arc::clone(&found.borrow_and_update());
        handed.hand(now, &manager).await;
    }
}
