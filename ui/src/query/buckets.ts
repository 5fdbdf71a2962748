// Native histograms as cells to draw.
import type { Histogram, HistogramSample } from '../api/shapes';
import { number } from './decode';

export interface Bucket {
  left: number;
  right: number;
  count: number;
  /** As `(0.5, 1]`. */
  range: string;
}

/** The buckets of a histogram, ascending. */
export function bucketsOf(histogram: Histogram): Bucket[] {
  const buckets = (histogram.buckets ?? []).map(([rule, left, right, count]) => ({
    left: number(left),
    right: number(right),
    count: number(count),
    // 0: open left, 1: open right, 2: both open, 3: both closed.
    range: `${rule === 1 || rule === 3 ? '[' : '('}${left}, ${right}${rule === 0 || rule === 3 ? ']' : ')'}`,
  }));
  return buckets.sort((a, b) => a.left - b.left);
}

/** Whether a bucket has values of both signs. */
export function isAroundZero(bucket: Bucket): boolean {
  return bucket.left < 0 && bucket.right > 0;
}

export interface Heat {
  /** Buckets at each time; times ascending, seconds. */
  columns: { ts: number; buckets: Bucket[] }[];
  /** Finite boundaries at both ends. */
  low: number;
  high: number;
  /** Whether there is a bucket around zero. */
  zero: boolean;
  /** Whether all buckets but that around zero are above it, so that a logarithmic axis fits. */
  positive: boolean;
  /** The least boundary above zero. */
  least: number;
  /** The greatest count of a bucket. */
  most: number;
}

export function heatOf(samples: HistogramSample[]): Heat {
  const heat: Heat = { columns: [], low: Infinity, high: -Infinity, zero: false, positive: true, least: Infinity, most: 0 };
  for (const [ts, histogram] of samples) {
    const buckets = bucketsOf(histogram).filter((b) => b.count !== 0);
    for (const b of buckets) {
      heat.most = Math.max(heat.most, b.count);
      // Its width is a threshold near nothing, and says nothing about where values are.
      if (isAroundZero(b)) {
        heat.zero = true;
        continue;
      }
      for (const edge of [b.left, b.right]) {
        if (!Number.isFinite(edge)) continue;
        heat.low = Math.min(heat.low, edge);
        heat.high = Math.max(heat.high, edge);
        if (edge > 0) heat.least = Math.min(heat.least, edge);
      }
      if (b.left < 0) heat.positive = false;
    }
    heat.columns.push({ ts, buckets });
  }
  if (heat.low > heat.high) [heat.low, heat.high] = [0, 1];
  if (!Number.isFinite(heat.least)) heat.positive = false;
  return heat;
}
