// The HTTP API, as far as the pages use it.
import { base } from './location';

export type Labels = Record<string, string>;
export type Sample = [number, string];

export interface QueryData {
  resultType: 'vector' | 'matrix' | 'scalar' | 'string';
  result: VectorItem[] | MatrixItem[] | Sample;
}
export interface VectorItem {
  metric: Labels;
  value: Sample;
}
export interface MatrixItem {
  metric: Labels;
  values: Sample[];
}

export interface Target {
  discoveredLabels: Labels;
  labels: Labels;
  scrapePool: string;
  scrapeUrl: string;
  globalUrl: string;
  lastError: string;
  lastScrape: string;
  lastScrapeDuration: number;
  health: 'up' | 'down' | 'unknown';
  scrapeInterval: string;
  scrapeTimeout: string;
}
export interface TargetsData {
  activeTargets: Target[];
  droppedTargets: { discoveredLabels: Labels; scrapePool: string }[];
  droppedTargetCounts: Record<string, number> | null;
}

export interface RuntimeInfo {
  startTime: string;
  CWD: string;
  hostname: string;
  serverTime: string;
  reloadConfigSuccess: boolean;
  lastConfigTime: string;
  corruptionCount: number;
  goroutineCount: number;
  GOMAXPROCS: number;
  GOMEMLIMIT: number;
  storageRetention: string;
  role: string;
  ready: 'starting' | 'ready' | 'stopping';
}
export interface BuildInfo {
  version: string;
  revision: string;
  branch: string;
  buildUser: string;
  buildDate: string;
  goVersion: string;
  application: string;
  applicationVersion: string;
}
export interface Stat {
  name: string;
  value: number;
}
export interface TsdbData {
  headStats: {
    numSeries: number;
    numLabelPairs: number;
    chunkCount: number;
    minTime: number;
    maxTime: number;
  };
  seriesCountByMetricName: Stat[];
  labelValueCountByLabelName: Stat[];
  memoryInBytesByLabelName: Stat[];
  seriesCountByLabelValuePair: Stat[];
}
export interface Block {
  ulid: string;
  minTime: number;
  maxTime: number;
  stats: { numSamples: number; numSeries: number; numChunks: number };
  compaction: { level: number };
  bytes: number | null;
  shipped?: boolean;
  resolution?: number;
  labels?: Labels;
  source?: string;
}
export interface BucketData {
  location: string;
  blocks: Block[];
  partial: number;
  lastSync: string;
  lastError: string;
  nextBlockDue: string | null;
}

export interface Answer<T> {
  data: T;
  warnings: string[];
  infos: string[];
}

/** An error that the server told, or that kept us from hearing it. */
export class ApiError extends Error {
  constructor(
    readonly type: string,
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

type Params = Record<string, string | number | undefined>;

/** Asks `api/v1/PATH`. Long questions go as a form, since URLs have a length. */
export async function ask<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<Answer<T>> {
  const form = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined) form.set(name, String(value));
  }
  const text = form.toString();
  const url = `${base}/api/v1/${path}`;
  let response: Response;
  try {
    response =
      text.length > 1500
        ? await fetch(url, { method: 'POST', body: form, signal })
        : await fetch(text ? `${url}?${text}` : url, { signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('network', 'The server cannot be reached.', 0);
  }
  let body: any;
  try {
    body = await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('network', `The server answered ${response.status} ${response.statusText}.`, response.status);
  }
  if (body.status !== 'success') {
    throw new ApiError(body.errorType ?? 'unknown', body.error ?? 'unknown error', response.status);
  }
  return { data: body.data, warnings: body.warnings ?? [], infos: body.infos ?? [] };
}
