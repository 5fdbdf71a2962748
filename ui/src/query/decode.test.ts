import { expect, test } from 'vitest';
import { decode, type Decoded, onGrid, steps } from './decode';

const grid = { start: 100, end: 160, step: 15 };
const answer = (data: unknown, more = {}) => JSON.stringify({ status: 'success', data, ...more });

test('series are laid on the grid of their query', () => {
  const series = onGrid({ metric: { a: 'b' }, values: [[100, '1'], [130.0004, '3'], [160, '+Inf']] }, 4, grid);
  expect(steps(grid)).toBe(5);
  expect([...series.values]).toEqual([1, NaN, 3, NaN, Infinity]);
  expect(series).toMatchObject({ index: 4, min: 1, max: 3, mean: 2, last: Infinity });
});

test('a series without numbers has no numbers to tell', () => {
  const series = onGrid({ metric: {}, values: [[115, 'NaN'], [900, '7']] }, 0, grid);
  expect(series).toMatchObject({ min: NaN, max: NaN, mean: NaN, last: NaN });
});

test('steps survive what floats do to them', () => {
  expect(steps({ start: 1_700_000_000.1, end: 1_700_000_000.4, step: 0.1 })).toBe(4);
});

test('every kind of result is read', () => {
  const read = (data: unknown, laid?: typeof grid) => (decode(answer(data), 200, laid) as Decoded).result;
  expect(read({ resultType: 'scalar', result: [1, '2'] })).toEqual({ kind: 'scalar', sample: [1, '2'] });
  expect(read({ resultType: 'string', result: [1, 'x'] })).toEqual({ kind: 'string', sample: [1, 'x'] });
  const vector = [{ metric: {}, value: [1, '2'] }];
  expect(read({ resultType: 'vector', result: vector })).toEqual({ kind: 'vector', items: vector });
  const matrix = [{ metric: {}, values: [[100, '2']] }];
  expect(read({ resultType: 'matrix', result: matrix })).toEqual({ kind: 'matrix', items: matrix });
  expect(read({ resultType: 'matrix', result: matrix }, grid).kind).toBe('grid');
});

test('what stands beside the result is kept', () => {
  const text = answer({ resultType: 'vector', result: [], analysis: { name: 'x' } }, { warnings: ['w'], infos: ['i'] });
  expect(decode(text, 200)).toMatchObject({ warnings: ['w'], infos: ['i'], analysis: { name: 'x' } });
});

test('errors say what the server said, whatever it was', () => {
  expect(decode('{"status":"error","errorType":"bad_data","error":"no"}', 400)).toEqual({ type: 'bad_data', message: 'no', status: 400 });
  expect(decode('upstream timed out\n', 504)).toEqual({ type: 'network', message: 'upstream timed out', status: 504 });
  expect(decode('', 502)).toMatchObject({ type: 'network', message: 'The server answered with status 502.' });
});
