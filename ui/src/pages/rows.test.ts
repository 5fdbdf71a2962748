// Lists of pages, as rows.
import { expect, test } from 'vitest';
import type { Rule, RuleGroup, Store, Target } from '../api/shapes';
import { changes, ruleShown } from './discovery';
import { rowsOf as groupRows, ruleText } from './groups';
import { frameOf } from './stores';
import { rowsOf as targetRows } from './targets';

const rule = (name: string, more: Partial<Rule> = {}): Rule => ({
  type: 'alerting', name, query: 'up', health: 'ok', evaluationTime: 0, lastEvaluation: '', ...more,
});
const alert = { labels: { alertname: 'A', job: 'x' }, annotations: {}, state: 'firing' as const, activeAt: '', value: '1' };
const group = (name: string, rules: Rule[]): RuleGroup => ({
  name, file: 'f', rules, interval: 1, limit: 0, evaluationTime: 0, lastEvaluation: '',
});

test('groups without a wanted rule are not there, open rules show their alerts', () => {
  const groups = [group('a', [rule('A', { alerts: [alert, alert] }), rule('B')]), group('b', [rule('B')])];
  const given = { wants: (r: Rule) => r.name === 'A', closed: new Set<string>(), open: new Set<string>() };
  expect(groupRows(groups, given).map((row) => row.kind)).toEqual(['group', 'rule']);
  expect(groupRows(groups, { ...given, open: new Set(['f;a;0']) }).map((row) => row.kind)).toEqual(['group', 'rule', 'alert', 'alert']);
  expect(groupRows(groups, { ...given, closed: new Set(['f;a']) }).map((row) => row.kind)).toEqual(['group']);
});

test('a rule is found by the labels of its alerts', () => {
  expect(ruleText(rule('A', { alerts: [alert] }), group('g', []))).toContain('job="x"');
});

test('pools count all of their targets, whichever are shown', () => {
  const target = (health: Target['health'], scrapePool: string, scrapeUrl: string): Target => ({
    health, scrapePool, scrapeUrl, globalUrl: scrapeUrl, labels: { job: scrapePool }, discoveredLabels: {}, lastError: '', lastScrape: '',
    lastScrapeDuration: 0, scrapeInterval: '', scrapeTimeout: '',
  });
  const all = [target('up', 'p', 'a'), target('down', 'p', 'b'), target('up', 'q', 'c')];
  const rows = targetRows(all, { health: 'down', matches: () => true, closed: new Set() });
  expect(rows).toMatchObject([{ kind: 'pool', pool: { name: 'p', up: 1, down: 1, all: 2 } }, { kind: 'target', target: { scrapeUrl: 'b' } }]);
});

test('the time of all stores leaves out what has no end', () => {
  const store = (minTime: number, maxTime: number): Store => ({ name: '', lastCheck: '', lastError: null, labelSets: [], minTime, maxTime });
  const now = 1_700_000_000_000;
  expect(frameOf([store(now - 9e8, now), store(-62167219200000, 9223372036854775807)], now)).toEqual({ from: now - 9e8, to: now });
});

test('what a relabelling rule changed, and the rule without what is as always', () => {
  expect(changes({ a: '1', b: '2', c: '3' }, { a: '1', b: '4', d: '5' })).toEqual({ set: { b: '4', d: '5' }, gone: ['c'] });
  const rule = { source_labels: ['a', 'b'], separator: ';', regex: '(.*)', target_label: 'z', replacement: '$1', action: 'replace' };
  expect(ruleShown(rule)).toBe('replace source_labels=[a, b] target_label=z');
  expect(ruleShown({ separator: ';', regex: 'x.*', replacement: '$1', action: 'labeldrop' })).toBe('labeldrop regex=x.*');
});
