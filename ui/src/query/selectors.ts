// Selectors that are clicked together.
import type { Labels } from '../api/shapes';
import { labelText } from '../parts/labels';

/** Series that are looked at to count labels. */
export const CARDINALITY = 10_000;

/** `name{label="value"}`, names of any kind. */
export function selector(name: string, matchers: Labels): string {
  const plain = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name);
  const pairs = Object.entries(matchers).map(([label, value]) => `${labelText(label)}=${JSON.stringify(value)}`);
  const inside = plain ? pairs : [JSON.stringify(name), ...pairs];
  return (plain ? name : '') + (inside.length > 0 ? `{${inside.join(', ')}}` : '');
}

/** The rate of a counter; nothing for what does not count. */
export function rateOf(type: string, text: string): string | undefined {
  const counts = type === 'counter' || type === 'histogram';
  return counts ? `rate(${text}[5m])` : undefined;
}

/** Each label with its values and how many series have each; the most telling first. */
export function labelCounts(series: Labels[]): { name: string; values: [value: string, series: number][] }[] {
  const labels = new Map<string, Map<string, number>>();
  for (const one of series) {
    for (const [name, value] of Object.entries(one)) {
      if (name === '__name__') continue;
      const values = labels.get(name) ?? new Map<string, number>();
      values.set(value, (values.get(value) ?? 0) + 1);
      labels.set(name, values);
    }
  }
  return [...labels]
    .map(([name, values]) => ({ name, values: [...values].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])) }))
    .sort((a, b) => a.name.localeCompare(b.name));
}
