// A native histogram over time: a column of buckets for each step, the fuller the stronger.
import { useContext, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { SharedContext } from '../context';
import { count, dateTime, value } from '../format';
import { useWidth } from '../hooks';
import { metricText } from '../parts/labels';
import { Notice } from '../parts/basics';
import { type Bucket, type Heat, heatOf, isAroundZero } from './buckets';
import type { Grid, GridSeries } from './decode';
import { baseOptions, HEIGHT, ink, placeTip, timesOf } from './plot';

interface Props {
  series: GridSeries[];
  grid: Grid;
  onZoom: (from: number, to: number) => void;
  onWiden: () => void;
}

export function Heatmap(props: Props) {
  const [at, setAt] = useState(0);
  const one = props.series[at] ?? props.series[0];
  const heat = useMemo(() => heatOf(one?.histograms ?? []), [one]);
  if (!one?.histograms) {
    return <Notice tone="info">No native histogram in this result; a heatmap needs one, such as rate(x[5m]) of a native histogram.</Notice>;
  }
  return (
    <div class="graph heatmap">
      {props.series.length > 1 && (
        <label class="select-series">
          <span class="muted">Series</span>
          <select value={at} onChange={(e) => setAt(Number(e.currentTarget.value))}>
            {props.series.slice(0, 200).map((s, i) => (
              <option key={i} value={i}>
                {metricText(s.metric)}
              </option>
            ))}
          </select>
          <span class="muted small">a heatmap shows one; sum() brings {count(props.series.length)} together</span>
        </label>
      )}
      <Plot {...props} heat={heat} />
      <p class="hint">Each column is a histogram: the stronger, the more observations in a bucket. Drag to zoom, double-click to widen.</p>
    </div>
  );
}

function Plot(props: Props & { heat: Heat }) {
  const { grid, heat } = props;
  const { dark, utc } = useContext(SharedContext);
  const [box, width] = useWidth<HTMLDivElement>();
  const host = useRef<HTMLDivElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const [cell, setCell] = useState<{ ts: number; bucket: Bucket } | null>(null);
  const latest = useRef(props);
  latest.current = props;

  useEffect(() => {
    const parent = host.current;
    if (!parent || width === 0) return;
    const options = baseOptions({
      width,
      grid,
      utc,
      on: () => ({ zoom: latest.current.onZoom, widen: latest.current.onWiden }),
    });
    // Below the least bucket there is room for the one around zero.
    const floor = heat.least / 2;
    options.scales = {
      ...options.scales,
      y: heat.positive
        ? { distr: 3, log: 2, range: () => [heat.zero || heat.low <= 0 ? floor : heat.least, heat.high] }
        : { range: () => [heat.low, heat.high] },
    };
    options.series = [{}, { show: true, stroke: 'transparent', points: { show: false } }];
    options.hooks = {
      ...options.hooks,
      draw: [(u) => drawCells(u, heat, grid.step, floor)],
      setCursor: [
        (u) => {
          const { left = -1, top = -1 } = u.cursor;
          if (left < 0 || !u.over.matches(':hover')) return setCell(null);
          if (tip.current) placeTip(u, tip.current);
          setCell(cellAt(heat, u.posToVal(left, 'x'), u.posToVal(top, 'y'), grid.step));
        },
      ],
    };
    const times = timesOf(grid);
    const chart = new uPlot(options, [times, times.map(() => null)], parent);
    return () => chart.destroy();
  }, [heat, grid, width, dark, utc]);

  return (
    <div ref={box}>
      <div class="plot" ref={host} style={{ minHeight: `${HEIGHT}px` }} role="img" aria-label="Heatmap of a native histogram">
        <div class="tip" ref={tip} hidden={!cell}>
          {cell && (
            <>
              <time>{dateTime(cell.ts * 1000, utc)}</time>
              <div class="tip-value">{value(cell.bucket.count)}</div>
              <div class="mono">
                {isAroundZero(cell.bucket) ? 'around zero' : `${value(cell.bucket.left)} to ${value(cell.bucket.right)}`}
              </div>
            </>
          )}
        </div>
      </div>
    </div>
  );
}

function drawCells(u: uPlot, heat: Heat, step: number, floor: number): void {
  const { ctx, bbox } = u;
  const least = u.scales.y?.min ?? 0;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = ink('--accent');
  const y = (edge: number) => u.valToPos(Math.max(least, heat.positive ? Math.max(edge, floor) : edge), 'y', true);
  for (const { ts, buckets } of heat.columns) {
    const left = u.valToPos(ts - step / 2, 'x', true);
    const right = u.valToPos(ts + step / 2, 'x', true);
    for (const bucket of buckets) {
      const bottom = y(Math.max(bucket.left, heat.positive ? 0 : heat.low));
      const top = y(heat.positive && isAroundZero(bucket) ? heat.least : Math.min(bucket.right, heat.high));
      // Counts span orders of magnitude; a root keeps the small ones visible.
      ctx.globalAlpha = 0.06 + 0.94 * Math.sqrt(Math.max(0, bucket.count) / (heat.most || 1));
      ctx.fillRect(left, top, Math.max(1, right - left - 0.5), Math.max(1, bottom - top - 0.5));
    }
  }
  ctx.restore();
}

/** The bucket at a time and a value. */
export function cellAt(heat: Heat, ts: number, y: number, step: number): { ts: number; bucket: Bucket } | null {
  const column = heat.columns.find((c) => Math.abs(c.ts - ts) <= step / 2);
  const zero = heat.positive && y < heat.least;
  const bucket = column?.buckets.find((b) => (zero ? isAroundZero(b) || b.left === 0 : y >= b.left && y <= b.right));
  return column && bucket ? { ts: column.ts, bucket } : null;
}
