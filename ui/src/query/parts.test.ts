// The small pieces of the query page that compute something.
import { expect, test } from 'vitest';
import type { Labels } from '../api/shapes';
import { bucketsOf, heatOf } from './buckets';
import type { GridSeries } from './decode';
import { parseGo } from './explain';
import { csv } from './export';
import { withAsked } from './history';
import { order } from './legend';
import { newPanel } from './panels';
import { columnOf, hasLoneSample, stack } from './plot';
import { curl, questionOf } from './question';
import { labelCounts, rateOf, selector } from './selectors';

test('stacking leaves a gap only where there is nothing', () => {
  expect(stack([[1, null, null], [2, 3, null], [4, null, null]])).toEqual([[1, null, null], [3, 3, null], [7, 3, null]]);
});

test('what is no number is a gap', () => {
  const series = { values: Float64Array.from([1, NaN, Infinity]) } as GridSeries;
  expect(columnOf(series)).toEqual([1, null, null]);
});

test('a sample without neighbours is seen', () => {
  expect(hasLoneSample([1, 2, null])).toBe(false);
  expect(hasLoneSample([1, 2, null, 4])).toBe(true);
  expect(hasLoneSample([null, 3, null])).toBe(true);
});

test('the greatest comes first, what is no number last', () => {
  expect([1, NaN, Infinity, -2, 5].sort(order)).toEqual([Infinity, 5, 1, -2, NaN]);
});

test('queries asked before are remembered once, starred ones for ever', () => {
  let list = withAsked([], ' up ', 1);
  list = withAsked(list, 'down', 2);
  list = withAsked(list, 'up', 3);
  expect(list).toEqual([{ expr: 'up', at: 3, times: 2 }, { expr: 'down', at: 2, times: 1 }]);
  expect(withAsked(list, '  ', 4)).toBe(list);
  list = [...list.map((a) => (a.expr === 'down' ? { ...a, starred: true } : a))];
  for (let i = 0; i < 600; i++) list = withAsked(list, `q${i}`, 10 + i);
  expect(list.length).toBe(501);
  expect(list.some((a) => a.expr === 'down')).toBe(true);
  expect(list.some((a) => a.expr === 'up')).toBe(false);
});

test('a selector is PromQL, whatever the names are', () => {
  expect(selector('up', {})).toBe('up');
  expect(selector('up', { job: 'a"b\\' })).toBe('up{job="a\\"b\\\\"}');
  expect(selector('http.requests', { 'status.code': '200' })).toBe('{"http.requests", "status.code"="200"}');
  expect(rateOf('counter', 'x')).toBe('rate(x[5m])');
  expect(rateOf('gauge', 'x')).toBeUndefined();
});

test('labels are counted by their values', () => {
  const series: Labels[] = [{ __name__: 'x', a: '1', b: 'x' }, { __name__: 'x', a: '2', b: 'x' }, { __name__: 'x', a: '2' }];
  expect(labelCounts(series)).toEqual([
    { name: 'a', values: [['2', 2], ['1', 1]] },
    { name: 'b', values: [['x', 2]] },
  ]);
});

test('times of a plan are read as Go writes them', () => {
  expect(parseGo('1m2.5s')).toBe(62.5e9);
  expect(parseGo('1.234567ms')).toBeCloseTo(1_234_567);
  expect(parseGo('15µs')).toBe(15_000);
  expect(parseGo('0s')).toBe(0);
  expect(parseGo('')).toBe(0);
});

test('buckets of a native histogram, in order and with their rules', () => {
  const buckets = bucketsOf({ count: '6', sum: '9', buckets: [[1, '-2', '-1', '1'], [0, '1', '2', '3'], [3, '-0.001', '0.001', '2']] });
  expect(buckets.map((b) => b.range)).toEqual(['[-2, -1)', '[-0.001, 0.001]', '(1, 2]']);
  const heat = heatOf([[10, { count: '6', sum: '9', buckets: [[0, '1', '2', '3'], [0, '2', '+Inf', '1'], [0, '4', '8', '0']] }]]);
  expect(heat).toMatchObject({ low: 1, high: 2, least: 1, most: 3, positive: true });
  expect(heatOf([]).positive).toBe(false);
  // The bucket around zero says nothing about the axis.
  const zero = heatOf([[10, { count: '6', sum: '9', buckets: [[3, '-1e-39', '1e-39', '2'], [0, '1', '2', '3']] }]]);
  expect(zero).toMatchObject({ low: 1, high: 2, least: 1, most: 3, zero: true, positive: true });
});

test('a table of numbers for spreadsheets', () => {
  const text = csv([
    { metric: { __name__: 'x', a: 'say "hi", you' }, value: [1.5, '2'] },
    { metric: { b: '=HYPERLINK("x")' }, values: [[1, '-Inf'], [2, '-3']] },
  ]);
  expect(text.split('\r\n')).toEqual([
    'timestamp,value,__name__,a,b',
    '1970-01-01T00:00:01.500Z,2,x,"say ""hi"", you",',
    '1970-01-01T00:00:01.000Z,-Inf,,,"\'=HYPERLINK(""x"")"',
    '1970-01-01T00:00:02.000Z,-3,,,"\'=HYPERLINK(""x"")"',
    '',
  ]);
});

test('a panel asks what it shows', () => {
  const graph = newPanel({ expr: 'up', tab: 'graph', range: 60_000 });
  expect(questionOf(graph, 15, 1007, false)).toMatchObject({ path: 'query_range', params: { start: 945, end: 1005, step: 15 } });
  const table = newPanel({ expr: 'up', dedup: false, partial: false, resolution: '1h', stores: ['a:1'] });
  expect(questionOf(table, 15, 1007, false).params).not.toHaveProperty('dedup');
  expect(questionOf(table, 15, 1007, true)).toMatchObject({
    path: 'query',
    params: { time: 1007, dedup: 'false', partial_response: 'false', max_source_resolution: '1h', 'storeMatch[]': ['{__address__="a:1"}'] },
  });
  const plan = newPanel({ expr: 'up', tab: 'explain', explainRange: true });
  expect(questionOf(plan, 15, 1007, false).path).toBe('query_range_explain');
  expect(questionOf({ ...plan, analyze: true }, 15, 1007, false)).toMatchObject({ path: 'query_range', params: { analyze: 'true' } });
});

test('a command line survives any shell', () => {
  const text = curl('http://x', questionOf(newPanel({ expr: `a{b="it's"}` }), 15, 5, false));
  expect(text).toBe(`curl -sSG 'http://x/api/v1/query' \\\n  --data-urlencode 'query=a{b="it'\\''s"}' \\\n  --data-urlencode 'time=5'`);
});
