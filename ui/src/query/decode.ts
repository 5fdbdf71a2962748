// From the text of an answer to what is drawn. Runs in the worker: an answer of ten thousand series
// is tens of megabytes, and reading it must not stop the page.
import type { Envelope } from '../api/ask';
import type {
  HistogramSample,
  Labels,
  MatrixItem,
  PlanNode,
  QueryData,
  QueryStats,
  Sample,
  VectorItem,
} from '../api/shapes';

/** The steps of a range query, seconds. */
export interface Grid {
  start: number;
  end: number;
  step: number;
}

/** A series over the steps of its query. */
export interface GridSeries {
  /** Its place in the answer; its colour goes by it. */
  index: number;
  metric: Labels;
  /** A value for each step; NaN where there is none. */
  values: Float64Array;
  histograms?: HistogramSample[];
  /** Of the finite values; NaN if there are none. */
  min: number;
  max: number;
  mean: number;
  last: number;
}

export type Result =
  | { kind: 'vector'; items: VectorItem[] }
  | { kind: 'matrix'; items: MatrixItem[] }
  | { kind: 'grid'; grid: Grid; series: GridSeries[] }
  | { kind: 'scalar' | 'string'; sample: Sample };

export interface Decoded {
  result: Result;
  warnings: string[];
  infos: string[];
  analysis?: PlanNode;
  stats?: QueryStats;
}

export interface Failure {
  type: string;
  message: string;
  status: number;
}

/** Reads an answer; the series of a range query are laid on its grid. */
export function decode(text: string, status: number, grid?: Grid): Decoded | Failure {
  let body: Envelope<QueryData>;
  try {
    body = JSON.parse(text) as Envelope<QueryData>;
  } catch {
    const said = text.length < 300 ? text.trim() : '';
    return { type: 'network', message: said || `The server answered with status ${status}.`, status };
  }
  if (body.status !== 'success') {
    return { type: body.errorType ?? 'unknown', message: body.error ?? 'unknown error', status };
  }
  const { data } = body;
  return {
    result: resultOf(data, grid),
    warnings: body.warnings ?? [],
    infos: body.infos ?? [],
    analysis: data.analysis,
    stats: data.stats,
  };
}

function resultOf(data: QueryData, grid?: Grid): Result {
  switch (data.resultType) {
    case 'vector':
      return { kind: 'vector', items: data.result as VectorItem[] };
    case 'matrix': {
      const items = data.result as MatrixItem[];
      if (!grid) return { kind: 'matrix', items };
      return { kind: 'grid', grid, series: items.map((item, index) => onGrid(item, index, grid)) };
    }
    default:
      return { kind: data.resultType, sample: data.result as Sample };
  }
}

/** A number as the API writes it. */
export function number(text: string): number {
  switch (text) {
    case '+Inf':
      return Infinity;
    case '-Inf':
      return -Infinity;
    default:
      return Number(text);
  }
}

/** How many steps a grid has. */
export function steps(grid: Grid): number {
  return Math.floor((grid.end - grid.start) / grid.step + 1e-6) + 1;
}

export function onGrid(item: MatrixItem, index: number, grid: Grid): GridSeries {
  const count = steps(grid);
  const values = new Float64Array(count).fill(NaN);
  let [min, max, sum, finite, last] = [Infinity, -Infinity, 0, 0, NaN];
  for (const [ts, text] of item.values ?? []) {
    const at = Math.round((ts - grid.start) / grid.step);
    if (at < 0 || at >= count) continue;
    const value = number(text);
    values[at] = value;
    last = value;
    if (!Number.isFinite(value)) continue;
    if (value < min) min = value;
    if (value > max) max = value;
    sum += value;
    finite++;
  }
  const none = finite === 0;
  return {
    index,
    metric: item.metric,
    values,
    histograms: item.histograms,
    min: none ? NaN : min,
    max: none ? NaN : max,
    mean: none ? NaN : sum / finite,
    last,
  };
}
