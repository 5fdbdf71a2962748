// What a panel asks, as path and parameters: asked, copied as curl, explained.
import type { Params } from '../api/ask';
import { encoded } from '../api/ask';
import type { Grid } from './decode';
import type { Panel } from './panels';

/** Series that a graph takes; the legend finds its way among them, not all are drawn. */
export const MOST_SERIES = 20_000;
/** Rows that a table takes. */
export const MOST_ROWS = 50_000;

export interface Question {
  path: string;
  params: Params;
  grid?: Grid;
}

/** The question of the panel's table or graph at `now`, seconds. */
export function questionOf(panel: Panel, step: number, now: number, gathering: boolean): Question {
  const common: Params = { query: panel.expr, ...(gathering ? storeParams(panel) : {}) };
  const range = panel.tab === 'graph' || (panel.tab === 'explain' && panel.explainRange);
  const analyze = panel.tab === 'explain' && panel.analyze ? { analyze: 'true', stats: 'all' } : {};
  const explain = panel.tab === 'explain' && !panel.analyze ? '_explain' : '';
  if (range) {
    const grid = gridOf(panel, step, now);
    return { path: `query_range${explain}`, params: { ...common, ...grid, ...analyze, limit: MOST_SERIES }, grid };
  }
  const time = panel.end !== undefined ? panel.end / 1000 : now;
  return { path: `query${explain}`, params: { ...common, time, ...analyze, limit: MOST_ROWS } };
}

/** On the grid of the step, so that a graph does not tremble when it is asked again. */
export function gridOf(panel: Panel, step: number, now: number): Grid {
  const end = panel.end !== undefined ? panel.end / 1000 : Math.floor(now / step) * step;
  return { start: end - panel.range / 1000, end, step };
}

function storeParams(panel: Panel): Params {
  return {
    dedup: panel.dedup ? undefined : 'false',
    partial_response: panel.partial === undefined ? undefined : String(panel.partial),
    max_source_resolution: panel.resolution,
    'storeMatch[]': panel.stores.map((name) => `{__address__=${JSON.stringify(name)}}`),
  };
}

/** A question as a command line for any shell of Unix. */
export function curl(root: string, { path, params }: Question): string {
  const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const data = [...encoded(params)].filter(([name]) => name !== 'limit');
  return [
    `curl -sSG ${quote(`${root}/api/v1/${path}`)}`,
    ...data.map(([name, value]) => `--data-urlencode ${quote(`${name}=${value}`)}`),
  ].join(' \\\n  ');
}
