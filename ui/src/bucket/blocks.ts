// Blocks as they are drawn, from what a bucket's page is told: Thanos' /api/v1/blocks, or our own
// status/bucket.
import type { Labels } from '../api/shapes';
import { metricText } from '../parts/labels';

/** `meta.json`, as far as it is shown. */
export interface Meta {
  ulid: string;
  minTime: number;
  maxTime: number;
  stats?: { numSamples?: number; numSeries?: number; numChunks?: number };
  compaction?: { level?: number; sources?: string[]; parents?: { ulid: string }[]; hints?: string[] };
  thanos?: {
    labels?: Labels | null;
    downsample?: { resolution?: number };
    source?: string;
    files?: { rel_path: string; size_bytes?: number }[] | null;
    index_stats?: { series_max_size?: number; chunk_max_size?: number };
  };
  /** Marks of this block, where the process says them. */
  marks?: Mark[] | null;
}
export interface Mark {
  /** `deletion`, `no-compact`, `no-downsample`. */
  kind: string;
  reason?: string;
  details?: string;
  /** When it was set, seconds. */
  time?: number;
}
/** Thanos' answer. */
export interface BlocksData {
  label: string;
  blocks: Meta[] | null;
  refreshedAt: string;
  err: unknown;
}
/** What a compactor will do: `blocks/plan`. */
export interface PlanData {
  todo: { compactions: number; blocks: number; bytes: number; downsamples: number; deletions: number } | null;
  /** Why nothing is done any more, by group. */
  halted: Record<string, string>;
}
/** Our own answer, of processes that ship. */
export interface BucketData {
  location: string;
  blocks: {
    ulid: string;
    minTime: number;
    maxTime: number;
    stats: { numSamples: number; numSeries: number; numChunks: number };
    compaction: { level: number };
    resolution: number;
    bytes: number | null;
    labels: Labels;
    source: string;
  }[];
  partial: number;
  lastSync: string;
  lastError: string;
  nextBlockDue: string | null;
}

export interface Block {
  ulid: string;
  /** ms; `max` is exclusive. */
  min: number;
  max: number;
  labels: Labels;
  /** ms; 0 for raw samples. */
  resolution: number;
  level: number;
  source: string;
  series: number;
  samples: number;
  chunks: number;
  bytes?: number;
  sources: string[];
  parents: string[];
  files: { name: string; bytes?: number }[];
  marks: Mark[];
}

export function fromMeta(meta: Meta): Block {
  const files = (meta.thanos?.files ?? []).map((f) => ({ name: f.rel_path, bytes: f.size_bytes }));
  const known = files.length > 0 && files.some((f) => f.bytes !== undefined);
  return {
    ulid: meta.ulid,
    min: meta.minTime,
    max: meta.maxTime,
    labels: meta.thanos?.labels ?? {},
    resolution: meta.thanos?.downsample?.resolution ?? 0,
    level: meta.compaction?.level ?? 1,
    source: meta.thanos?.source ?? '',
    series: meta.stats?.numSeries ?? 0,
    samples: meta.stats?.numSamples ?? 0,
    chunks: meta.stats?.numChunks ?? 0,
    bytes: known ? files.reduce((sum, f) => sum + (f.bytes ?? 0), 0) : undefined,
    sources: meta.compaction?.sources ?? [],
    parents: (meta.compaction?.parents ?? []).map((p) => p.ulid),
    files,
    marks: meta.marks ?? [],
  };
}

export function fromBucket(block: BucketData['blocks'][number]): Block {
  return {
    ulid: block.ulid,
    min: block.minTime,
    max: block.maxTime,
    labels: block.labels,
    resolution: block.resolution,
    level: block.compaction.level,
    source: block.source,
    series: block.stats.numSeries,
    samples: block.stats.numSamples,
    chunks: block.stats.numChunks,
    bytes: block.bytes ?? undefined,
    sources: [],
    parents: [],
    files: [],
    marks: [],
  };
}

/** Blocks of the same external labels, and their rows. */
export interface Group {
  key: string;
  labels: Labels;
  blocks: Block[];
  rows: Row[];
  bytes: number;
}
/** Blocks of one resolution and level that do not overlap. */
export interface Row {
  resolution: number;
  level: number;
  /** Whether what stands here overlaps the row above it, of the same resolution and level. */
  overlap: boolean;
  blocks: Block[];
}

export function groupsOf(blocks: Block[]): Group[] {
  const groups = new Map<string, Block[]>();
  for (const block of blocks) {
    const key = metricText(block.labels);
    const list = groups.get(key);
    if (list) list.push(block);
    else groups.set(key, [block]);
  }
  return [...groups]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([key, list]) => ({
      key,
      labels: list[0]?.labels ?? {},
      blocks: list,
      rows: rowsOf(list),
      bytes: list.reduce((sum, b) => sum + (b.bytes ?? 0), 0),
    }));
}

/** Raw first, then coarser ones; the most compacted first. */
function rowsOf(blocks: Block[]): Row[] {
  const rows: Row[] = [];
  const sorted = [...blocks].sort((a, b) => a.resolution - b.resolution || b.level - a.level || a.min - b.min || a.max - b.max);
  for (const block of sorted) {
    const same = rows.filter((row) => row.resolution === block.resolution && row.level === block.level);
    const free = same.find((row) => (row.blocks[row.blocks.length - 1]?.max ?? -Infinity) <= block.min);
    if (free) free.blocks.push(block);
    else rows.push({ resolution: block.resolution, level: block.level, overlap: same.length > 0, blocks: [block] });
  }
  return rows;
}

export function resolutionText(ms: number): string {
  return ms === 0 ? 'raw' : ms === 300_000 ? '5m' : ms === 3_600_000 ? '1h' : `${ms / 1000}s`;
}
