// Exemplars over a graph.
import { useEffect, useState } from 'preact/hooks';
import type uPlot from 'uplot';
import { ask } from '../api/ask';
import type { ExemplarSeries, Labels } from '../api/shapes';
import type { Grid } from './decode';
import { ink } from './plot';

export interface Exemplar {
  seriesLabels: Labels;
  labels: Labels;
  value: number;
  /** Seconds. */
  timestamp: number;
}

/** More than this nobody can point at. */
const MOST = 2000;
const NONE: Exemplar[] = [];

/** The exemplars of the series in an expression; asked for only if `on`. */
export function useExemplars(on: boolean, expr: string, grid: Grid | undefined): { exemplars: Exemplar[]; error?: string } {
  const [state, set] = useState<{ exemplars: Exemplar[]; error?: string }>({ exemplars: NONE });
  useEffect(() => {
    if (!on || !grid) return set({ exemplars: NONE });
    const control = new AbortController();
    ask<ExemplarSeries[]>('query_exemplars', { query: expr, start: grid.start, end: grid.end }, control.signal).then(
      ({ data }) => set({ exemplars: flat(data) }),
      (error: Error) => !control.signal.aborted && set({ exemplars: NONE, error: error.message }),
    );
    return () => control.abort();
  }, [on, expr, grid]);
  return state;
}

function flat(all: ExemplarSeries[]): Exemplar[] {
  const list = all.flatMap(({ seriesLabels, exemplars }) =>
    exemplars.map((e) => ({ seriesLabels, labels: e.labels, value: Number(e.value), timestamp: e.timestamp })),
  );
  return list.slice(0, MOST);
}

const SIZE = 4.5;

/** Where an exemplar stands, in CSS pixels: at its value, or at the edge that is nearest to it. */
function place(u: uPlot, exemplar: Exemplar): [x: number, y: number] {
  const y = u.valToPos(exemplar.value, 'y');
  const inside = Number.isFinite(y) ? Math.min(u.over.clientHeight - SIZE, Math.max(SIZE, y)) : u.over.clientHeight - SIZE;
  return [u.valToPos(exemplar.timestamp, 'x'), inside];
}

export function drawExemplars(u: uPlot, exemplars: Exemplar[]): void {
  if (exemplars.length === 0) return;
  const { ctx, bbox } = u;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.fillStyle = ink('--flame');
  ctx.strokeStyle = ink('--surface');
  ctx.lineWidth = ratio;
  for (const exemplar of exemplars) {
    const [left, top] = place(u, exemplar);
    const [x, y, r] = [left * ratio + bbox.left, top * ratio + bbox.top, SIZE * ratio];
    ctx.beginPath();
    ctx.moveTo(x, y - r);
    ctx.lineTo(x + r, y);
    ctx.lineTo(x, y + r);
    ctx.lineTo(x - r, y);
    ctx.closePath();
    ctx.fill();
    ctx.stroke();
  }
  ctx.restore();
}

/** The exemplar under the pointer. */
export function exemplarAt(u: uPlot, exemplars: Exemplar[], x: number, y: number): Exemplar | undefined {
  return exemplars.find((exemplar) => {
    const [left, top] = place(u, exemplar);
    return Math.abs(left - x) + Math.abs(top - y) <= SIZE * 2;
  });
}
