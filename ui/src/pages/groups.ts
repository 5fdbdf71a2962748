// Rule groups as one list of rows, so that only those on the screen need to be there.
import type { Alert, Rule, RuleGroup } from '../api/shapes';

export type GroupRow =
  | { kind: 'group'; key: string; group: RuleGroup; rules: number }
  | { kind: 'rule'; key: string; rule: Rule }
  | { kind: 'alert'; key: string; alert: Alert; last: boolean };

/** The rules that are wanted under their groups; groups in `closed` without them, rules in `open` with their alerts. */
export function rowsOf(
  groups: RuleGroup[],
  given: { wants: (rule: Rule, group: RuleGroup) => boolean; closed: ReadonlySet<string>; open: ReadonlySet<string> },
): GroupRow[] {
  const rows: GroupRow[] = [];
  for (const group of groups) {
    const name = `${group.file};${group.name}`;
    const wanted = group.rules.map((rule, i) => ({ rule, key: `${name};${i}` })).filter(({ rule }) => given.wants(rule, group));
    if (wanted.length === 0) continue;
    rows.push({ kind: 'group', key: name, group, rules: wanted.length });
    if (given.closed.has(name)) continue;
    for (const { rule, key } of wanted) {
      rows.push({ kind: 'rule', key, rule });
      const alerts = given.open.has(key) ? (rule.alerts ?? []) : [];
      alerts.forEach((alert, i) => rows.push({ kind: 'alert', key: `${key};${i}`, alert, last: i === alerts.length - 1 }));
    }
  }
  return rows;
}

/** Everything of a rule that is searched in. */
export function ruleText(rule: Rule, group: RuleGroup): string {
  const labels = Object.entries({ ...rule.labels, ...rule.annotations }).map(([n, v]) => `${n}="${v}"`);
  const alerts = (rule.alerts ?? []).flatMap((a) => Object.entries(a.labels).map(([n, v]) => `${n}="${v}"`));
  return [rule.name, rule.query, group.name, group.file, rule.lastError ?? '', ...labels, ...alerts].join(' ');
}
