import { expect, test } from 'vitest';
import { rowAt, topsOf } from './rows';
import { wordsOf } from './search';

test('rows of different heights are found by where they stand', () => {
  const tops = topsOf(4, (i) => [10, 0, 30, 5][i] ?? 0);
  expect([...tops]).toEqual([0, 10, 10, 40, 45]);
  expect([-5, 0, 9, 10, 39, 40, 1000].map((y) => rowAt(tops, y))).toEqual([0, 0, 0, 2, 2, 3, 3]);
  expect(rowAt(topsOf(0, () => 1), 5)).toBe(0);
});

test('all words must be there, in any order and case', () => {
  const matches = wordsOf('  Disk host1 ');
  expect(matches('host1: DISK full')).toBe(true);
  expect(matches('host2: disk full')).toBe(false);
  expect(wordsOf('')('anything')).toBe(true);
});
