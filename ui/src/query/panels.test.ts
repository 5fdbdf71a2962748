import { expect, test } from 'vitest';
import { autoStep, decode, encode, newPanel, type Panel, pointsOf } from './panels';

const { id: _, ...plain } = newPanel();
const without = (panel: Panel) => {
  const { id: _, ...rest } = panel;
  return rest;
};

test('what is seen is what a link says', () => {
  const panels = [
    newPanel({ expr: 'a & b="c d"', tab: 'graph', range: 5_400_000, end: Date.UTC(2026, 0, 31, 12), step: 15, mode: 'stacked' }),
    newPanel({ expr: 'x', tab: 'explain', analyze: true, explainRange: true, density: 'high', mode: 'heatmap' }),
    newPanel({ expr: 'y', exemplars: true, yMin: 0, refresh: 30_000, dedup: false, partial: false, resolution: '1h', stores: ['a:1', 'b"c'], tenant: 'team-a' }),
    newPanel({ expr: 'z', tab: 'explain', tree: true }),
    newPanel({ expr: '' }),
  ];
  expect(decode(encode(panels)).map(without)).toEqual(panels.map(without));
});

test('nothing in the address is one empty panel', () => {
  expect(decode('').map(without)).toEqual([plain]);
  expect(decode('x=y&g.expr=z').map(without)).toEqual([plain]);
});

test('links of alerts and of the second Prometheus page', () => {
  const [panel] = decode('g0.expr=up%20%3D%3D%200&g0.tab=1');
  expect(panel).toMatchObject({ expr: 'up == 0', tab: 'table' });
  const [graph] = decode('g0.expr=x&g0.tab=0&g0.stacked=1&g0.show_exemplars=1&g0.range_input=2d&g0.step_input=30&g0.end_input=2026-01-31%2012%3A00&g0.moment_input=2026-01-31%2012%3A00');
  expect(graph).toMatchObject({ tab: 'graph', mode: 'stacked', exemplars: true, range: 172_800_000, step: 30, end: Date.UTC(2026, 0, 31, 12) });
});

test('links of the third Prometheus page', () => {
  const [panel] = decode('g0.expr=x&g0.show_tree=0&g0.tab=graph&g0.range_input=1h&g0.res_type=auto&g0.res_density=low&g0.res_step=60&g0.display_mode=heatmap&g0.y_axis_min=-3&g0.show_exemplars=0');
  expect(panel).toMatchObject({ tab: 'graph', density: 'low', mode: 'heatmap', yMin: -3, exemplars: false });
  expect(panel?.step).toBeUndefined();
  expect(decode('g0.expr=x&g0.res_type=custom&g0.res_step=7.5')[0]?.step).toBe(7.5);
});

test('links of Thanos', () => {
  const stores = encodeURIComponent('[{"name":"store:10901"},{"other":1},null]');
  const [panel] = decode(`g0.expr=x&g0.tab=1&g0.max_source_resolution=5m&g0.deduplicate=0&g0.partial_response=0&g0.store_matches=${stores}&g0.engine=thanos&g0.analyze=0`);
  expect(panel).toMatchObject({ resolution: '5m', dedup: false, partial: false, stores: ['store:10901'], analyze: false });
  expect(decode('g0.expr=x&g0.store_matches=nonsense')[0]?.stores).toEqual([]);
});

test('panels come in the order of their numbers, whatever they are', () => {
  expect(decode('g7.expr=c&g0.expr=a&g3.expr=b').map((p) => p.expr)).toEqual(['a', 'b', 'c']);
});

test('steps are round, and never give more points than are wanted', () => {
  for (const range of [60e3, 3600e3, 86400e3, 30 * 86400e3, 365 * 86400e3]) {
    for (const points of [100, 250, 600]) expect(range / 1000 / autoStep(range, points)).toBeLessThanOrEqual(points);
  }
  expect(autoStep(3600e3, 250)).toBe(15);
  expect(pointsOf(1200, 'high')).toBeGreaterThan(pointsOf(1200, 'medium'));
});
