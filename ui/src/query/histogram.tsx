// One native histogram as bars.
import type { Histogram } from '../api/shapes';
import { axis } from '../format';
import { bucketsOf, isAroundZero } from './buckets';

/** Bars drawn; wider histograms are seen better as a heatmap. */
const MOST = 160;

export function HistogramBars({ histogram }: { histogram: Histogram }) {
  const all = bucketsOf(histogram);
  const buckets = all.slice(0, MOST);
  const most = Math.max(1e-300, ...buckets.map((b) => b.count));
  const first = buckets[0];
  const last = buckets[buckets.length - 1];
  return (
    <div class="histogram">
      <div class="histogram-facts">
        <span class="muted">count</span> {histogram.count} <span class="muted">sum</span> {histogram.sum}
      </div>
      {first && last && (
        <>
          <div class="histogram-bars" role="img" aria-label={`Histogram of ${histogram.count} observations in ${all.length} buckets`}>
            {buckets.map((b, i) => (
              <span key={i} title={`${b.range}: ${b.count}`}>
                <i style={{ height: `${Math.max(2, (100 * b.count) / most)}%` }} />
              </span>
            ))}
          </div>
          <div class="histogram-ends">
            <span>{isAroundZero(first) ? 0 : axis(first.left)}</span>
            {all.length > MOST && <span>the first {MOST} of {all.length} buckets</span>}
            <span>{axis(last.right)}</span>
          </div>
        </>
      )}
    </div>
  );
}
