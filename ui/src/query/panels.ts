// Panels and the URL: everything that is seen can be linked to. The parameters are Prometheus' and
// Thanos' (g0.expr, g0.tab, ...), of all their pages, so that old links work.
import { dateTime, duration, parseDateTime, parseDuration } from '../format';

export type Tab = 'table' | 'graph' | 'explain';
export type Mode = 'lines' | 'stacked' | 'heatmap';
export type Density = 'low' | 'medium' | 'high';

export interface Panel {
  id: number;
  expr: string;
  tab: Tab;
  /** ms */
  range: number;
  /** Right end of the graph and time of the table, ms; undefined: now. */
  end?: number;
  /** Distance of points, seconds; undefined: as the width allows. */
  step?: number;
  /** How many points there are where `step` does not say. */
  density: Density;
  mode: Mode;
  exemplars: boolean;
  /** The least value that the axis shows; undefined: as the data has it. */
  yMin?: number;
  /** Ask again so often, ms; 0: only when told. */
  refresh: number;
  /** Explain the range query of the graph, not the instant one of the table. */
  explainRange: boolean;
  /** Run the query to explain it. */
  analyze: boolean;
  /** Show what each part of the expression gives, instead of a plan. */
  tree: boolean;
  // Where many stores answer.
  dedup: boolean;
  /** undefined: as the querier has it. */
  partial?: boolean;
  /** `max_source_resolution`; undefined: as the querier has it. */
  resolution?: string;
  /** Addresses; empty: all. */
  stores: string[];
  /** Empty: as the querier has it. */
  tenant: string;
}

const NEW: Omit<Panel, 'id'> = {
  expr: '',
  tab: 'table',
  range: 3600e3,
  density: 'medium',
  mode: 'lines',
  exemplars: false,
  refresh: 0,
  explainRange: false,
  analyze: false,
  tree: false,
  dedup: true,
  stores: [],
  tenant: '',
};

let ids = 0;

export function newPanel(from?: Partial<Panel>): Panel {
  return { ...NEW, ...from, id: ++ids };
}

/** The panels of a URL's search; one empty panel if there is none. */
export function decode(search: string): Panel[] {
  const groups = new Map<number, Map<string, string>>();
  for (const [name, value] of new URLSearchParams(search)) {
    const match = /^g(\d{1,3})\.(\w+)$/.exec(name);
    if (!match) continue;
    const group = Number(match[1]);
    const params = groups.get(group) ?? new Map<string, string>();
    params.set(match[2] ?? '', value);
    groups.set(group, params);
  }
  const sorted = [...groups].sort(([a], [b]) => a - b).map(([, params]) => params);
  return sorted.length > 0 ? sorted.map(panelOf) : [newPanel()];
}

const TABS: Record<string, Tab> = { '0': 'graph', graph: 'graph', explain: 'explain' };
const DENSITIES = ['low', 'medium', 'high'];

function panelOf(p: Map<string, string>): Panel {
  const time = p.get('end_input') || p.get('moment_input');
  const step = Number(p.get('res_step') ?? p.get('step_input'));
  const fixed = p.get('res_type') !== 'auto' && step > 0;
  const density = p.get('res_density') ?? '';
  const mode = p.get('display_mode');
  const yMin = p.get('y_axis_min');
  const partial = p.get('partial_response');
  return newPanel({
    expr: p.get('expr') ?? '',
    tab: TABS[p.get('tab') ?? ''] ?? 'table',
    range: parseDuration(p.get('range_input') ?? '') || NEW.range,
    // Prometheus writes times in UTC.
    end: time ? parseDateTime(time, true) : undefined,
    step: fixed ? step : undefined,
    density: DENSITIES.includes(density) ? (density as Density) : 'medium',
    mode: mode === 'heatmap' ? 'heatmap' : mode === 'stacked' || p.get('stacked') === '1' ? 'stacked' : 'lines',
    exemplars: p.get('show_exemplars') === '1',
    yMin: yMin && Number.isFinite(Number(yMin)) ? Number(yMin) : undefined,
    refresh: parseDuration(p.get('refresh') ?? '') ?? 0,
    explainRange: p.get('explain') === 'range',
    analyze: p.get('analyze') === '1',
    tree: p.get('show_tree') === '1',
    dedup: p.get('deduplicate') !== '0',
    partial: partial === undefined ? undefined : partial === '1',
    resolution: p.get('max_source_resolution') || undefined,
    stores: storesOf(p.get('store_matches')),
    tenant: p.get('tenant') ?? '',
  });
}

/** Thanos' `[{"name":"host:port"}]`. */
function storesOf(text: string | undefined): string[] {
  if (!text) return [];
  try {
    const list: unknown = JSON.parse(text);
    if (!Array.isArray(list)) return [];
    return list.flatMap((one: unknown) => {
      const name = (one as { name?: unknown } | null)?.name;
      return typeof name === 'string' ? [name] : [];
    });
  } catch {
    return []; // no list of stores
  }
}

/** The search of a URL that shows these panels; what is as always is not written. */
export function encode(panels: Panel[]): string {
  const search = new URLSearchParams();
  panels.forEach((panel, i) => {
    const set = (name: string, value: string) => search.set(`g${i}.${name}`, value);
    const flag = (name: string, on: boolean) => on && set(name, '1');
    set('expr', panel.expr);
    set('tab', panel.tab);
    set('range_input', duration(panel.range));
    if (panel.end !== undefined) {
      set('end_input', dateTime(panel.end, true));
      set('moment_input', dateTime(panel.end, true));
    }
    if (panel.step !== undefined) {
      set('res_type', 'fixed');
      set('res_step', String(panel.step));
    } else if (panel.density !== 'medium') {
      set('res_type', 'auto');
      set('res_density', panel.density);
    }
    if (panel.mode !== 'lines') set('display_mode', panel.mode);
    flag('show_exemplars', panel.exemplars);
    if (panel.yMin !== undefined) set('y_axis_min', String(panel.yMin));
    if (panel.refresh > 0) set('refresh', duration(panel.refresh));
    if (panel.explainRange) set('explain', 'range');
    flag('analyze', panel.analyze);
    flag('show_tree', panel.tree);
    if (!panel.dedup) set('deduplicate', '0');
    if (panel.partial !== undefined) set('partial_response', panel.partial ? '1' : '0');
    if (panel.resolution !== undefined) set('max_source_resolution', panel.resolution);
    if (panel.stores.length > 0) set('store_matches', JSON.stringify(panel.stores.map((name) => ({ name }))));
    if (panel.tenant !== '') set('tenant', panel.tenant);
  });
  return search.toString();
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** A step, seconds, that gives at most about `points` points. */
export function autoStep(range: number, points: number): number {
  const wanted = range / 1000 / Math.max(points, 50);
  return STEPS.find((s) => s >= wanted) ?? Math.ceil(wanted / 86400) * 86400;
}

/** How many points a graph of this width has. */
export function pointsOf(width: number, density: Density): number {
  const whole = Math.min(600, Math.max(150, Math.round(width / 400) * 200));
  return Math.round(whole * { low: 0.4, medium: 1, high: 2.5 }[density]);
}
