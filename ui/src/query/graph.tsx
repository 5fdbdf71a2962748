// Results over time, drawn by uPlot, with a legend that switches series on and off.
import { useContext, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { MatrixItem } from '../api';
import { SharedContext } from '../context';
import { axis, count, dateTime, value } from '../format';
import { useWidth } from '../hooks';
import { Metric } from '../parts';
import { colour } from './colours';

/** Series drawn; more would be slow and unreadable. */
const MOST = 200;
const HEIGHT = 360;

type Column = (number | null)[];

/** Series as columns over one common grid. */
function columns(series: MatrixItem[], start: number, end: number, step: number): [number[], Column[]] {
  const steps = Math.floor((end - start) / step + 1e-9) + 1;
  const times = Array.from({ length: steps }, (_, i) => start + i * step);
  const all = series.map(({ values }) => {
    const column: Column = new Array(steps).fill(null);
    for (const [ts, text] of values) {
      const i = Math.round((ts - start) / step);
      const n = Number(text);
      // Infinities and what is no number leave a gap.
      if (i >= 0 && i < steps && Number.isFinite(n)) column[i] = n;
    }
    return column;
  });
  return [times, all];
}

/** Each column plus the visible ones below it. */
function stack(all: Column[], hidden: ReadonlySet<number>): Column[] {
  let sum: number[] = [];
  return all.map((column, i) => {
    if (hidden.has(i)) return column;
    const top = column.map((n, x) => (sum[x] ?? 0) + (n ?? 0));
    sum = top;
    return top;
  });
}

export function Graph(props: {
  series: MatrixItem[];
  start: number;
  end: number;
  step: number;
  stacked: boolean;
  onZoom: (from: number, to: number) => void;
  onWiden: () => void;
}) {
  const { dark, utc } = useContext(SharedContext);
  const [box, width] = useWidth<HTMLDivElement>();
  const host = useRef<HTMLDivElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [hidden, setHidden] = useState<ReadonlySet<number>>(new Set());
  const [hover, setHover] = useState<number | null>(null);
  const [near, setNear] = useState<{ series: number; at: number } | null>(null);
  const handlers = useRef(props);
  handlers.current = props;

  const shown = useMemo(() => props.series.slice(0, MOST), [props.series]);
  const [times, raw] = useMemo(
    () => columns(shown, props.start, props.end, props.step),
    [shown, props.start, props.end, props.step],
  );
  useEffect(() => setHidden(new Set()), [shown.length]);

  useEffect(() => {
    const parent = host.current;
    if (!parent || width === 0) return;
    const style = getComputedStyle(document.documentElement);
    const of = (name: string) => style.getPropertyValue(name).trim();
    const font = '12px system-ui, sans-serif';
    const ink = { stroke: of('--muted'), font, grid: { stroke: of('--line'), width: 1 }, ticks: { show: false } };
    const drawn = props.stacked ? stack(raw, hidden) : raw;
    const visible = drawn.map((_, i) => i).filter((i) => !hidden.has(i));
    const options: uPlot.Options = {
      width,
      height: HEIGHT,
      legend: { show: false },
      padding: [12, 12, 0, 0],
      tzDate: utc ? (ts) => uPlot.tzDate(new Date(ts * 1000), 'Etc/UTC') : undefined,
      cursor: {
        points: { size: 7, width: 2 },
        drag: { x: true, y: false, setScale: false },
        focus: { prox: 24 },
        bind: {
          dblclick: () => () => {
            handlers.current.onWiden();
            return null;
          },
        },
      },
      focus: { alpha: 0.25 },
      scales: { x: { time: true, range: () => [props.start, props.end] } },
      axes: [
        {
          ...ink,
          space: 90,
          values: [
            [86400 * 365, '{YYYY}', null, null, null, null, null, null, 1],
            [86400 * 28, '{MMM} {YYYY}', null, null, null, null, null, null, 1],
            [86400, '{MM}-{DD}', '\n{YYYY}', null, null, null, null, null, 1],
            [60, '{HH}:{mm}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
            [0.001, '{HH}:{mm}:{ss}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
          ],
        },
        { ...ink, size: 64, space: 44, values: (_, splits) => splits.map((n) => (n === null ? '' : axis(n))) },
      ],
      series: [
        {},
        ...drawn.map((_, i) => ({
          show: !hidden.has(i),
          stroke: colour(i, dark),
          width: props.stacked ? (drawn.length > 40 ? 0 : 1) : 1.6,
          fill: props.stacked ? colour(i, dark, dark ? 0.35 : 0.4) : undefined,
          points: { show: isolatedPoints },
        })),
      ],
      bands: props.stacked
        ? visible.slice(1).map((top, i) => ({ series: [top + 1, (visible[i] ?? 0) + 1] as [number, number] }))
        : undefined,
      hooks: {
        setSelect: [
          (u) => {
            if (u.select.width > 4) {
              const from = u.posToVal(u.select.left, 'x') * 1000;
              const to = u.posToVal(u.select.left + u.select.width, 'x') * 1000;
              u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              handlers.current.onZoom(from, to);
            }
          },
        ],
        setCursor: [
          (u) => {
            const { left = -1, top = -1, idx } = u.cursor;
            const tag = tip.current;
            if (tag && left >= 0) {
              const right = left > u.over.clientWidth / 2;
              const x = left + u.over.offsetLeft;
              tag.style.transform = `translate(${right ? `calc(${x - 14}px - 100%)` : `${x + 14}px`}, ${Math.max(0, top - 20)}px)`;
            }
            if (left < 0 || idx == null) return setNear(null);
            const found = nearest(u, idx, top, hidden);
            setNear(found === null ? null : { series: found, at: idx });
          },
        ],
      },
    };
    const chart = new uPlot(options, [times, ...drawn] as uPlot.AlignedData, parent);
    plot.current = chart;
    return () => {
      chart.destroy();
      plot.current = null;
    };
  }, [times, raw, width, dark, utc, props.stacked, hidden]);

  useEffect(() => {
    plot.current?.setSeries(hover === null ? null : hover + 1, { focus: true });
  }, [hover]);

  const click = (i: number, event: MouseEvent) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) {
      const next = new Set(hidden);
      if (!next.delete(i)) next.add(i);
      setHidden(next);
      return;
    }
    // A plain click shows this one alone, and all again when it already is alone.
    const alone = !hidden.has(i) && hidden.size === shown.length - 1;
    setHidden(alone ? new Set() : new Set(shown.map((_, j) => j).filter((j) => j !== i)));
  };
  const nearby = near ? shown[near.series] : undefined;

  return (
    <div class="graph" ref={box}>
      <div class="plot" ref={host} role="img" aria-label={`Graph of ${count(shown.length)} series`}>
        <div class="tip" ref={tip} hidden={!near}>
          {near && nearby && (
            <>
              <time>{dateTime((times[near.at] ?? 0) * 1000, utc)}</time>
              <div class="tip-value">
                <i style={{ background: colour(near.series, dark) }} />
                {value(raw[near.series]?.[near.at] ?? NaN)}
              </div>
              <div class="tip-labels">
                {Object.entries(nearby.metric).map(([name, text]) => (
                  <div key={name}>
                    <span class="label-name">{name === '__name__' ? 'name' : name}</span> {text}
                  </div>
                ))}
              </div>
            </>
          )}
        </div>
      </div>
      <p class="hint">
        Drag to zoom, double-click to widen. Click a series to see it alone, <kbd>Ctrl</kbd>+click to switch it.
        {props.series.length > MOST &&
          ` Drawn are the first ${MOST} of ${count(props.series.length)} series; topk() or sum() by fewer labels shows what matters.`}
      </p>
      <ul class="legend">
        {shown.map((one, i) => (
          <li key={i}>
            <button
              type="button"
              aria-pressed={!hidden.has(i)}
              onClick={(e) => click(i, e)}
              onMouseEnter={() => setHover(i)}
              onMouseLeave={() => setHover(null)}
              onFocus={() => setHover(i)}
              onBlur={() => setHover(null)}
            >
              <i style={{ background: colour(i, dark) }} aria-hidden="true" />
              <Metric labels={one.metric} />
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** The visible series whose line is nearest to the pointer at this time. */
function nearest(u: uPlot, idx: number, top: number, hidden: ReadonlySet<number>): number | null {
  let best: number | null = null;
  let distance = Infinity;
  for (let i = 1; i < u.data.length; i++) {
    const n = u.data[i]?.[idx];
    if (n == null || hidden.has(i - 1)) continue;
    const away = Math.abs(u.valToPos(n, 'y') - top);
    if (away < distance) {
      distance = away;
      best = i - 1;
    }
  }
  return best;
}

/** Only points that no line reaches are drawn as points: a lone sample must be seen. */
function isolatedPoints(u: uPlot, series: number): boolean {
  const column = u.data[series];
  if (!column) return false;
  const alone = (i: number) => column[i] != null && column[i - 1] == null && column[i + 1] == null;
  for (let i = 0; i < column.length; i++) if (alone(i)) return true;
  return false;
}
