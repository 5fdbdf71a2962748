import { expect, test } from 'vitest';
import { ago, axis, bytes, dateTime, duration, parseDateTime, parseDuration, span, spanWords, value } from './format';

test.each([
  ['90', 90_000],
  ['1.5', 1500],
  ['15s', 15_000],
  ['1h30m', 5_400_000],
  ['2w', 14 * 86_400_000],
  ['1y', 365 * 86_400_000],
  ['250ms', 250],
  ['', undefined],
  ['h', undefined],
  ['30m1h', undefined],
  ['-5m', undefined],
])('%s is read as a duration', (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test('durations are written as they are read', () => {
  for (const ms of [1, 999, 15_000, 90_000, 3_600_000, 7 * 86_400_000, 365 * 86_400_000, 123_456_789]) {
    expect(parseDuration(duration(ms))).toBe(ms);
  }
});

test('spans are for people', () => {
  expect(span(12)).toBe('12 ms');
  expect(span(7_500_000)).toBe('2 h 5 m');
  expect(span(NaN)).toBe('–');
  expect(spanWords(3_600_000)).toBe('hour');
  expect(spanWords(300_000)).toBe('5 minutes');
  expect(spanWords(5_400_000)).toBe('90 minutes');
  expect(spanWords(1500)).toBe('1 s');
});

test('moments are read as they are written, in both zones', () => {
  const ms = Date.UTC(2026, 0, 31, 18, 30, 5);
  expect(dateTime(ms, true)).toBe('2026-01-31 18:30:05');
  for (const utc of [true, false]) expect(parseDateTime(dateTime(ms, utc), utc)).toBe(ms);
  expect(parseDateTime('2026-01-31', true)).toBe(Date.UTC(2026, 0, 31));
  expect(parseDateTime('2026-01-31T18:30:05.250', true)).toBe(ms);
  expect(parseDateTime('yesterday', true)).toBeUndefined();
});

test('numbers are short on an axis and whole in a tip', () => {
  expect(axis(0)).toBe('0');
  expect(axis(1_500_000)).toBe('1.5M');
  expect(axis(1e-9)).toBe('1e-9');
  expect(value(0.1 + 0.2)).toBe('0.3');
  expect(value(-Infinity)).toBe('-Inf');
  expect(bytes(1536)).toBe('1.5 KiB');
  expect(bytes(0)).toBe('0 B');
});

test('times in the past and in the future', () => {
  const now = Date.UTC(2026, 0, 1);
  const iso = (ms: number) => new Date(ms).toISOString();
  expect(ago('0001-01-01T00:00:00Z', now)).toBe('never');
  expect(ago(iso(now - 90_000), now)).toBe('1 m 30 s ago');
  expect(ago(iso(now + 5000), now)).toBe('in 5 s');
  expect(ago(iso(now - 40 * 86_400_000), now)).toBe('2025-11-22');
});
