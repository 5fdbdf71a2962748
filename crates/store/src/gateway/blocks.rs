//! One block's series for one query: postings, then windows of series, then their chunks, always
//! a little ahead of whoever merges.

use std::sync::Arc;

use bucket::CatalogBlock;
use futures_util::{StreamExt as _, stream};
use model::source::Shard;
use model::{Labels, Matcher, SourceError, Str, TimeRange};
use tokio::sync::mpsc;

use super::chunks::{self, ChunkReader};
use super::entries::{Entries, SeriesReader, SymbolMap, Wanted, keeps_order};
use super::fetch::Query;
use super::header::Header;
use crate::merge::{Input, Keyed};

/// Series entries of one window, at most.
const MOST_SERIES: usize = 16_384;
/// Batches of chunks that are on their way at once, for each block.
const AHEAD: usize = 2;

/// A block that a query asks.
#[derive(Clone)]
pub(super) struct Part {
    pub block: Arc<CatalogBlock>,
    /// External labels that are laid on top of its series.
    pub external: Labels,
    /// The matchers that its series have to satisfy.
    pub matchers: Arc<[Matcher]>,
    /// The part of the question's range that it answers for.
    pub range: TimeRange,
}

/// What all blocks of a query are asked.
#[derive(Clone)]
pub(super) struct Ask {
    pub range: TimeRange,
    pub without: Vec<Str>,
    pub shard: Option<Shard>,
    pub skip_chunks: bool,
    /// Which columns of downsampled chunks are wanted (bits of `Aggregate`).
    pub aggregates: u8,
    /// At most so many series; 0 means all.
    pub limit: usize,
    /// Bytes of chunks in one batch, about.
    pub window: u64,
}

/// A block's batches, made by a task of its own.
pub(super) struct BlockInput {
    name: String,
    batches: mpsc::Receiver<Result<Keyed, SourceError>>,
}

impl Input for BlockInput {
    async fn next(&mut self) -> Result<Option<Keyed>, SourceError> {
        self.batches.recv().await.transpose()
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl BlockInput {
    pub(super) fn spawn(
        tasks: &mut tokio::task::JoinSet<()>,
        query: Query,
        part: Part,
        ask: Ask,
    ) -> Self {
        let (send, batches) = mpsc::channel(1);
        let name = format!("block {}", part.block.ulid());
        tasks.spawn(async move {
            let run = Run {
                query: &query,
                part: &part,
                ask: &ask,
                send: &send,
            };
            if let Err(e) = run.all().await {
                // Nobody listens any more: then nobody misses it.
                let _ = send.send(Err(e)).await;
            }
        });
        Self { name, batches }
    }
}

struct Run<'a> {
    query: &'a Query,
    part: &'a Part,
    ask: &'a Ask,
    send: &'a mpsc::Sender<Result<Keyed, SourceError>>,
}

impl Run<'_> {
    async fn all(&self) -> Result<(), SourceError> {
        let block = &self.part.block;
        let header = self.query.header(block).await?;
        let matchers = Arc::clone(&self.part.matchers);
        let resolved = self.query.resolve(block.ulid(), &header, matchers).await?;
        if resolved.ids.is_empty() {
            return Ok(());
        }
        // Four bytes a series, for as long as the block is read.
        let size = resolved.ids.len() as u64 * 4;
        let _ids = self.query.scope.budget.reserve("postings", size)?;
        let in_order = keeps_order(&header, &self.part.external, &self.ask.without);
        let reader = self
            .query
            .series_reader(self.part, &header, self.ask, resolved.rest);
        let chunks = ChunkReader::new(block.ulid(), &block.meta, self.ask.aggregates);
        if in_order {
            return self.in_order(reader, chunks, &resolved.ids).await;
        }
        // Everything has to be known before the first one is.
        let mut all = Entries::counted(self.query)?;
        let mut map = SymbolMap::default();
        for ids in resolved.ids.chunks(MOST_SERIES) {
            let (entries, back) = reader.read(self.query, ids.to_vec(), map).await?;
            all.append(&entries)?;
            map = back;
        }
        let symbols = Arc::clone(&self.query.scope.symbols);
        let sorted = self.query.compute(move || {
            all.sort(&symbols);
            all
        });
        self.give(chunks, Arc::new(sorted.await?)).await.map(drop)
    }

    /// Windows of series one after the other, the next being read while the chunks of one are.
    async fn in_order(
        &self,
        reader: Arc<SeriesReader>,
        chunks: ChunkReader,
        ids: &[u32],
    ) -> Result<(), SourceError> {
        let window = self.window_series(&reader);
        // Owned pieces: the futures of a stream over borrowed ones are not `Send` to the compiler.
        let pieces: Vec<Vec<u32>> = ids.chunks(window).map(<[u32]>::to_vec).collect();
        let windows = pieces.into_iter().map(|ids| {
            let reader = Arc::clone(&reader);
            async move { reader.read(self.query, ids, SymbolMap::default()).await }
        });
        let mut windows = stream::iter(windows).buffered(AHEAD);
        let mut given = 0;
        // The next window is asked for, too, while this one's chunks are awaited.
        let mut next = windows.next().await;
        while let Some(window) = next {
            let (entries, _) = window?;
            let entries = Arc::new(entries);
            let (gave, ahead) =
                futures_util::join!(self.give(chunks, Arc::clone(&entries)), windows.next());
            given += entries.len();
            next = ahead;
            let enough = self.ask.limit > 0 && given >= self.ask.limit;
            if !gave? || enough {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Series of one window: few while chunks are large, so that what is read ahead stays small.
    fn window_series(&self, reader: &SeriesReader) -> usize {
        let by_bytes = (self.ask.window / reader.guess.max(1)) as usize;
        let mut window = by_bytes.clamp(64, MOST_SERIES);
        if self.ask.limit > 0 {
            window = window.min(self.ask.limit.max(16));
        }
        window
    }

    /// Fetches the chunks of a window and hands them on; false if nobody wants more.
    async fn give(&self, chunks: ChunkReader, entries: Arc<Entries>) -> Result<bool, SourceError> {
        if entries.len() == 0 {
            return Ok(true);
        }
        let groups = match self.ask.skip_chunks {
            true => std::iter::once(0..entries.len()).collect(),
            false => chunks.batches(&entries, self.ask.window),
        };
        let skip = self.ask.skip_chunks;
        let reads = groups.into_iter().map(|rows| {
            let entries = Arc::clone(&entries);
            async move { chunks.read(self.query, &entries, rows, skip).await }
        });
        let mut reads = stream::iter(reads).buffered(AHEAD);
        while let Some(batch) = reads.next().await {
            if self.send.send(Ok(batch?)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Query {
    pub(super) async fn header(&self, block: &CatalogBlock) -> Result<Arc<Header>, SourceError> {
        let bucket = self.inner.catalog.bucket();
        self.wait(self.inner.headers.get(bucket, block)).await
    }

    pub(super) fn series_reader(
        &self,
        part: &Part,
        header: &Arc<Header>,
        ask: &Ask,
        rest: Vec<Matcher>,
    ) -> Arc<SeriesReader> {
        let meta = &part.block.meta;
        let range = ask.range.intersect(part.range);
        let longest = meta
            .thanos
            .as_ref()
            .map_or(0, |t| t.index_stats.series_max_size);
        Arc::new(SeriesReader {
            ulid: part.block.ulid(),
            guess: SeriesReader::guess(header, meta.stats.num_series, longest),
            header: Arc::clone(header),
            chunks: match ask.skip_chunks {
                true => 0,
                false => chunks::bytes_of_series(meta, range),
            },
            wanted: Arc::new(Wanted {
                range,
                rest,
                external: part.external.clone(),
                without: ask.without.clone(),
                shard: ask.shard.clone(),
            }),
        })
    }
}
