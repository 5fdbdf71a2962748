// What graphs and heatmaps share: axes, zooming, the crosshair; and series as uPlot wants them.
import uPlot from 'uplot';
import { axis } from '../format';
import { type Grid, type GridSeries, steps } from './decode';

export type Column = (number | null)[];

export const HEIGHT = 360;

/** The times of a grid, seconds. */
export function timesOf(grid: Grid): number[] {
  return Array.from({ length: steps(grid) }, (_, i) => grid.start + i * grid.step);
}

/** Infinities and what is no number leave a gap. */
export function columnOf(series: GridSeries): Column {
  return Array.from(series.values, (n) => (Number.isFinite(n) ? n : null));
}

/** Each column plus those before it; a gap only where there is nothing so far. */
export function stack(columns: Column[]): Column[] {
  let below: Column = [];
  return columns.map((column) => {
    const top = column.map((n, x) => (n === null ? (below[x] ?? null) : (below[x] ?? 0) + n));
    below = top;
    return top;
  });
}

/** A colour of the page's style. */
export function ink(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const YEAR = 365 * 86400;
const TIMES: uPlot.Axis.Values = [
  [YEAR, '{YYYY}', null, null, null, null, null, null, 1],
  [28 * 86400, '{MMM} {YYYY}', null, null, null, null, null, null, 1],
  [86400, '{MM}-{DD}', '\n{YYYY}', null, null, null, null, null, 1],
  [60, '{HH}:{mm}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
  [0.001, '{HH}:{mm}:{ss}', '\n{YYYY}-{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
];

/** Options of any plot over time. */
export function baseOptions(given: {
  width: number;
  grid: Grid;
  utc: boolean;
  on: () => { zoom: (from: number, to: number) => void; widen: () => void };
}): uPlot.Options & { axes: uPlot.Axis[] } {
  const lines = {
    stroke: ink('--muted'),
    font: '12px system-ui, sans-serif',
    grid: { stroke: ink('--line'), width: 1 },
    ticks: { show: false },
  };
  return {
    width: given.width,
    height: HEIGHT,
    legend: { show: false },
    padding: [12, 12, 0, 0],
    tzDate: given.utc ? (ts) => uPlot.tzDate(new Date(ts * 1000), 'Etc/UTC') : undefined,
    cursor: {
      points: { size: 7, width: 2 },
      drag: { x: true, y: false, setScale: false },
      focus: { prox: 24 },
      // The crosshair stands at the same time in all panels.
      sync: { key: 'panels', setSeries: false, scales: ['x', null] },
      bind: {
        dblclick: () => () => {
          given.on().widen();
          return null;
        },
      },
    },
    scales: { x: { time: true, range: () => [given.grid.start, given.grid.end] } },
    axes: [
      { ...lines, space: 90, values: TIMES },
      { ...lines, size: 64, space: 44, values: (_, splits) => splits.map((n) => (n === null ? '' : axis(n))) },
    ],
    series: [],
    hooks: {
      setSelect: [
        (u) => {
          if (u.select.width <= 4) return;
          const from = u.posToVal(u.select.left, 'x') * 1000;
          const to = u.posToVal(u.select.left + u.select.width, 'x') * 1000;
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          given.on().zoom(from, to);
        },
      ],
    },
  };
}

/** Puts a tip beside the pointer, on the side that has room. */
export function placeTip(u: uPlot, tip: HTMLElement): void {
  const { left = -1, top = -1 } = u.cursor;
  const right = left > u.over.clientWidth / 2;
  const x = left + u.over.offsetLeft;
  const across = right ? `calc(${x - 14}px - 100%)` : `${x + 14}px`;
  tip.style.transform = `translate(${across}, ${Math.max(0, top - 20)}px)`;
}

/** The series whose line is nearest to the height `y` at a step; none if all have a gap there. */
export function nearest(u: uPlot, step: number, y: number): number | null {
  let best: number | null = null;
  let distance = Infinity;
  for (let i = 1; i < u.data.length; i++) {
    const n = u.data[i]?.[step];
    if (n == null) continue;
    const away = Math.abs(u.valToPos(n, 'y') - y);
    if (away < distance) {
      distance = away;
      best = i - 1;
    }
  }
  return best;
}

/** Whether a sample stands alone: no line reaches it, so it must be drawn as a point. */
export function hasLoneSample(column: ArrayLike<number | null | undefined>): boolean {
  for (let i = 0; i < column.length; i++) {
    if (column[i] != null && column[i - 1] == null && column[i + 1] == null) return true;
  }
  return false;
}
