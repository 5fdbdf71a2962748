// Panels and the URL: everything that is seen can be linked to. The parameters are Prometheus'
// (g0.expr, g0.tab, ...), of its second and third page, so that old links work.
import { dateTime, duration, parseDateTime, parseDuration } from '../format';

export interface Panel {
  id: number;
  expr: string;
  tab: 'graph' | 'table';
  /** ms */
  range: number;
  /** Right end of the graph and time of the table, ms; undefined: now. */
  end?: number;
  /** Distance of points, seconds; undefined: as the width allows. */
  step?: number;
  stacked: boolean;
}

let ids = 0;

export function newPanel(from?: Partial<Panel>): Panel {
  return { expr: '', tab: 'table', range: 3600e3, stacked: false, ...from, id: ++ids };
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
  const panels = sorted.map((p) => {
    const tab = p.get('tab');
    const table = tab === 'table' || tab === '1' || tab === undefined;
    const time = p.get('end_input') ?? p.get('moment_input');
    const step = Number(p.get('res_step') ?? p.get('step_input'));
    return newPanel({
      expr: p.get('expr') ?? '',
      tab: table ? 'table' : 'graph',
      range: parseDuration(p.get('range_input') ?? '') || 3600e3,
      // Prometheus writes times in UTC.
      end: time ? parseDateTime(time, true) : undefined,
      step: step > 0 ? step : undefined,
      stacked: p.get('display_mode') === 'stacked' || p.get('stacked') === '1',
    });
  });
  return panels.length > 0 ? panels : [newPanel()];
}

export function encode(panels: Panel[]): string {
  const search = new URLSearchParams();
  panels.forEach((panel, i) => {
    const set = (name: string, value: string) => search.set(`g${i}.${name}`, value);
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
    }
    if (panel.stacked) set('display_mode', 'stacked');
  });
  return search.toString();
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** A step, seconds, that gives at most about `points` points. */
export function autoStep(range: number, points: number): number {
  const wanted = range / 1000 / Math.max(points, 50);
  return STEPS.find((s) => s >= wanted) ?? Math.ceil(wanted / 86400) * 86400;
}
