//! Making one block of others, from the bucket into the bucket.

use std::path::PathBuf;
use std::sync::Arc;

use block::merge::{self, Merged, MergedChunk, Merger, Overlap};
use block::{Block, Chunk, Meta, Writer};
use bucket::{Bucket, CatalogBlock};
use model::{Cancel, Labels, Millis};
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use ulid::Ulid;

use crate::downsample::Downsampler;
use crate::input::Files;
use crate::output::{HashFunc, Output};
use crate::retention::Outdated;
use crate::{Error, input};

/// The key in `thanos.extensions` of a block's `meta.json` under which it says that we made it.
const OURS: &str = "epimetheus";

/// The key beside it under which it says which block it stands for.
const REPLACES: &str = "replaces";

/// What is made of the inputs.
#[derive(Clone, Debug)]
pub enum Work {
    /// They become one block.
    Compact(Overlap),
    /// The one input is downsampled to this resolution, ms.
    Downsample(Millis),
    /// The one input is written again without some of its series, and replaced.
    Drop(Outdated),
}

/// A block to be made.
#[derive(Clone, Debug)]
pub struct Job {
    /// The group.
    pub group: String,
    /// What is done.
    pub work: Work,
    /// The blocks that go into it, by time.
    pub inputs: Vec<Arc<CatalogBlock>>,
    /// External labels of the block.
    pub labels: Labels,
    /// Its resolution, ms.
    pub resolution: Millis,
    /// Its name.
    pub output: Ulid,
}

/// Is told of progress: a job, and bytes.
pub type Tell = Arc<dyn Fn(&Job, u64) + Send + Sync>;

/// What jobs need.
#[derive(Clone)]
pub struct Workshop {
    /// The bucket.
    pub bucket: Arc<Bucket>,
    /// Where indexes lie until they are whole.
    pub dir: PathBuf,
    /// Whether files get a hash.
    pub hash: HashFunc,
    /// Ends jobs.
    pub stop: Cancel,
    /// Told how many bytes of input a job has read through.
    pub progress: Tell,
}

/// A block that is in the bucket but for its `meta.json`.
pub struct Made {
    /// What will be its `meta.json`.
    pub meta: Meta,
    output: Arc<Output>,
}

impl Made {
    /// Lets it be seen.
    pub async fn publish(mut self) -> Result<Meta, Error> {
        self.output.publish(&mut self.meta).await?;
        Ok(self.meta)
    }

    /// Removes it again.
    pub async fn discard(self) {
        self.output.discard().await;
    }
}

/// What a block says of who made it.
pub fn made_by_us(meta: &Meta) -> bool {
    let extensions = meta.thanos.as_ref().and_then(|t| t.extensions.as_ref());
    let ours = extensions.and_then(|e| e.get(OURS)?.get("block")?.as_str());
    ours.is_some_and(|ulid| ulid == meta.ulid.to_string())
}

/// The block that a block of ours was made of and stands for: nobody needs that any more.
pub fn replaces(meta: &Meta) -> Option<Ulid> {
    if !made_by_us(meta) {
        return None;
    }
    let extensions = meta.thanos.as_ref().and_then(|t| t.extensions.as_ref());
    Ulid::from_string(extensions?.get(OURS)?.get(REPLACES)?.as_str()?).ok()
}

impl Job {
    /// The `meta.json` of the block, as far as it is known before.
    fn meta(&self) -> Meta {
        let metas: Vec<&Meta> = self.inputs.iter().map(|b| &b.meta).collect();
        let mut meta = match (&self.work, metas.as_slice()) {
            // It is the same block at another resolution, or with less in it.
            (Work::Downsample(_) | Work::Drop(_), [one]) => Meta {
                ulid: self.output,
                stats: block::meta::Stats::default(),
                ..Meta::clone(one)
            },
            _ => merge::meta_of(self.output, &metas),
        };
        let labels = self.labels.iter();
        let from = meta.thanos.take().unwrap_or_default();
        meta.thanos = Some(block::meta::Thanos {
            version: 1,
            labels: labels.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            downsample: block::meta::Downsample {
                resolution: self.resolution,
            },
            source: "compactor".to_owned(),
            extensions: Some(extensions(&metas, self.output)),
            rewrites: from.rewrites,
            ..block::meta::Thanos::default()
        });
        if let (Work::Drop(outdated), [one]) = (&self.work, metas.as_slice()) {
            say_what_is_dropped(&mut meta, outdated, one.ulid);
        }
        meta
    }

    /// Makes the block, all but its `meta.json`, of inputs that have these `files`. None if no sample is
    /// left. After an error nothing of it stays, unless the bucket is out of reach.
    pub async fn run(
        self: Arc<Self>,
        shop: &Workshop,
        files: Vec<Files>,
    ) -> Result<Option<Made>, Error> {
        let parent = shop.dir.join(&self.group).join(self.output.to_string());
        let output = Output::new(
            Arc::clone(&shop.bucket),
            Handle::current(),
            self.output,
            &parent,
            shop.hash,
        );
        let making = {
            let (job, shop, output) = (Arc::clone(&self), shop.clone(), Arc::clone(&output));
            let (parent, runtime) = (parent.clone(), Handle::current());
            move || job.write(&shop, &runtime, &files, output, &parent)
        };
        let made = tokio::task::spawn_blocking(making).await;
        let made = made.unwrap_or(Err(Error::Stopped));
        let done = match made {
            Ok(Some(mut meta)) => match output.upload_index(&mut meta).await {
                Ok(()) => Ok(Some(meta)),
                Err(e) => Err(e),
            },
            other => other,
        };
        let cleaned = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(parent)).await;
        if let Ok(Err(error)) = cleaned
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a folder of a finished job cannot be removed");
        }
        match done {
            Ok(Some(meta)) => Ok(Some(Made { meta, output })),
            Ok(None) => {
                output.discard().await;
                Ok(None)
            }
            Err(e) => {
                output.discard().await;
                Err(e)
            }
        }
    }

    fn write(
        &self,
        shop: &Workshop,
        runtime: &Handle,
        files: &[Files],
        output: Arc<Output>,
        parent: &std::path::Path,
    ) -> Result<Option<Meta>, Error> {
        let window = input::window(self.inputs.len());
        let mut blocks: Vec<Arc<Block>> = Vec::with_capacity(self.inputs.len());
        for (block, files) in self.inputs.iter().zip(files) {
            let opened = input::open_listed(&shop.bucket, runtime, &block.meta, files, window)?;
            blocks.push(opened);
        }
        let (mut merger, symbols) = match (&self.work, blocks.as_slice()) {
            (Work::Drop(outdated), [block]) => Merger::without(block, &outdated.series(block)?)?,
            (Work::Compact(overlap), _) => Merger::new(&blocks, *overlap)?,
            _ => Merger::new(&blocks, Overlap::Unite)?,
        };
        let mut writer = Writer::create_on(output, parent, self.meta(), symbols)?;
        let mut merged = Merged::default();
        let mut downsampler = Downsampler::default();
        let mut encoded = Vec::new();
        let mut read = 0u64;
        while merger.next(&mut merged)? {
            if shop.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            read += merged
                .chunks
                .iter()
                .map(|c| c.data.len() as u64)
                .sum::<u64>();
            if read > PROGRESS {
                (shop.progress)(self, std::mem::take(&mut read));
            }
            match self.work {
                Work::Compact(_) | Work::Drop(_) => {
                    let chunks: Vec<Chunk<'_>> =
                        merged.chunks.iter().map(MergedChunk::borrow).collect();
                    writer.add(&merged.labels, &chunks)?;
                }
                Work::Downsample(to) => {
                    encoded.clear();
                    let from = self.inputs.first().map_or(0, |b| b.meta.resolution());
                    downsampler
                        .series(&merged.chunks, from, to, &mut encoded)
                        .map_err(|source| Error::Downsample {
                            series: text(&writer, &merged.labels),
                            source,
                        })?;
                    let chunks: Vec<Chunk<'_>> = encoded.iter().map(Chunk::from).collect();
                    writer.add(&merged.labels, &chunks)?;
                }
            }
        }
        (shop.progress)(self, read);
        let made = writer.finish()?;
        Ok(made.map(|mut meta| {
            if let (Work::Downsample(_), Some(from)) = (&self.work, self.inputs.first()) {
                // How many samples of each kind are behind the windows, as Thanos says it.
                meta.stats.num_float_samples = from.meta.stats.num_float_samples;
                meta.stats.num_histogram_samples = from.meta.stats.num_histogram_samples;
            }
            meta
        }))
    }
}

/// After so many bytes progress is told.
const PROGRESS: u64 = 1 << 20;

fn text(writer: &Writer, labels: &[(u32, u32)]) -> String {
    let Some(symbols) = writer.symbols() else {
        return String::new();
    };
    let pairs = labels
        .iter()
        .map(|(n, v)| (symbols.get(*n), symbols.get(*v)));
    Labels::from_pairs(pairs).to_string()
}

/// Lets a block say, as Thanos' tool for rewriting does, what was taken out of it, and which block it
/// replaces. Its sources stay: downsampled blocks go on being of the same data.
fn say_what_is_dropped(meta: &mut Meta, outdated: &Outdated, replaced: Ulid) {
    let sources = meta.compaction.sources.iter().map(Ulid::to_string);
    let sources: Vec<String> = sources.collect();
    let deletions = outdated.selectors().map(|selector| {
        serde_json::json!({ "matchers": selector, "intervals": null, "request_id": "retention" })
    });
    let deletions: Vec<Value> = deletions.collect();
    let thanos = meta.thanos.get_or_insert_default();
    thanos.rewrites.push(serde_json::json!({
        "sources": sources,
        "deletions_applied": deletions,
        "relabels_applied": null,
    }));
    if let Some(Value::Object(ours)) = thanos.extensions.as_mut().and_then(|e| e.get_mut(OURS)) {
        ours.insert(REPLACES.to_owned(), replaced.to_string().into());
    }
}

/// What all inputs have in common of what others put into `meta.json`, and our own mark.
fn extensions(inputs: &[&Meta], output: Ulid) -> Value {
    let mut common: Option<Map<String, Value>> = None;
    for meta in inputs {
        let extensions = meta.thanos.as_ref().and_then(|t| t.extensions.as_ref());
        let Some(Value::Object(extensions)) = extensions else {
            continue;
        };
        match &mut common {
            None => common = Some(extensions.clone()),
            Some(common) => common.retain(|key, value| extensions.get(key) == Some(value)),
        }
    }
    let mut common = common.unwrap_or_default();
    common.insert(
        OURS.to_owned(),
        serde_json::json!({ "block": output.to_string() }),
    );
    Value::Object(common)
}
