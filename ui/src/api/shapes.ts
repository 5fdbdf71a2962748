// The JSON of the HTTP API, as far as the pages use it.

export type Labels = Record<string, string>;
export type Sample = [number, string];

/** A native histogram: buckets are `[boundary rule, left, right, count]`. */
export interface Histogram {
  count: string;
  sum: string;
  buckets?: [number, string, string, string][];
}
export type HistogramSample = [number, Histogram];

export interface QueryData {
  resultType: 'vector' | 'matrix' | 'scalar' | 'string';
  result: VectorItem[] | MatrixItem[] | Sample;
  analysis?: PlanNode;
  stats?: QueryStats;
}
export interface VectorItem {
  metric: Labels;
  value?: Sample;
  histogram?: HistogramSample;
}
export interface MatrixItem {
  metric: Labels;
  values?: Sample[];
  histograms?: HistogramSample[];
}
export interface QueryStats {
  timings: Record<string, number>;
  samples: { totalQueryableSamples: number; samplesRead?: number; peakSamples: number };
}

/** A part of a plan; with what it has done if the query was run for it. */
export interface PlanNode {
  name: string;
  executionTime?: string;
  totalSamples?: number;
  peakSamples?: number;
  series?: number;
  bytes?: number;
  streams?: boolean;
  memory?: string;
  children?: PlanNode[];
}

export interface ExemplarSeries {
  seriesLabels: Labels;
  exemplars: { labels: Labels; value: string; timestamp: number }[];
}
export type MetadataData = Record<string, { type: string; help: string; unit: string }[]>;

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
  scrapeInterval?: string;
  scrapeTimeout?: string;
}
export interface DroppedTarget {
  discoveredLabels: Labels;
  scrapePool: string;
}
export interface TargetsData {
  activeTargets: Target[];
  droppedTargets: DroppedTarget[];
  droppedTargetCounts: Record<string, number> | null;
}

/** A rule as the configuration has it, with what it leaves to be as it always is. */
export type RelabelRule = { action: string } & Record<string, string | number | string[]>;
export interface RelabelStep {
  rule: RelabelRule;
  output: Labels;
  keep: boolean;
}

/** What people should know about the state of the process. */
export interface Notification {
  text: string;
  date: string;
  active: boolean;
}

export interface Alert {
  labels: Labels;
  annotations: Labels;
  state: AlertState;
  activeAt: string;
  keepFiringSince?: string;
  value: string;
}
export type AlertState = 'inactive' | 'pending' | 'firing';
export interface Rule {
  type: 'alerting' | 'recording';
  name: string;
  query: string;
  labels?: Labels;
  health: 'ok' | 'err' | 'unknown';
  lastError?: string;
  evaluationTime: number;
  lastEvaluation: string;
  /** Of alerting rules. */
  state?: AlertState;
  duration?: number;
  keepFiringFor?: number;
  annotations?: Labels;
  alerts?: Alert[] | null;
}
export interface RuleGroup {
  name: string;
  file: string;
  rules: Rule[];
  interval: number;
  limit: number;
  evaluationTime: number;
  lastEvaluation: string;
}
export interface AlertmanagersData {
  activeAlertmanagers: { url: string }[];
  droppedAlertmanagers: { url: string }[];
}

export interface Store {
  name: string;
  lastCheck: string;
  lastError: string | null;
  labelSets: Labels[];
  minTime: number;
  maxTime: number;
}
export type StoresData = Record<string, Store[]>;

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
  /** Names of the pages that this process has something to show on. */
  pages?: string[];
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
/** A block on the local disk. */
export interface LocalBlock {
  ulid: string;
  minTime: number;
  maxTime: number;
  stats: { numSamples: number; numSeries: number; numChunks: number };
  compaction: { level: number };
  bytes: number | null;
  shipped?: boolean;
}
export interface LocalBlocksData {
  blocks: LocalBlock[];
  quarantined?: { folder: string; reason: string; since: string }[];
  deletedUnshipped?: { ulid: string; minTime: number; maxTime: number; deletedAt: string }[];
}
