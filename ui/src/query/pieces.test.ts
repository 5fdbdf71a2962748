import { expect, test } from 'vitest';
import { type Piece, piecesOf } from './pieces';

const shape = (piece: Piece | undefined): unknown =>
  piece && (piece.children.length === 0 ? piece.head : [piece.head, ...piece.children.map(shape)]);

test('an expression is a tree of parts that can be asked', () => {
  expect(shape(piecesOf('sum by (a) (rate(x{b="c"}[5m])) / on (a) group_left -(foo offset 5m > bool 2)'))).toEqual([
    '/ on (a) group_left',
    ['sum by (a)', ['rate()', 'x{b="c"}[5m]']],
    ['-', ['> bool', 'foo offset 5m']],
  ]);
  expect(shape(piecesOf('topk(3, max_over_time(x[1h:5m] @ end()))'))).toMatchObject(['topk', ['max_over_time()', expect.anything()]]);
  expect(shape(piecesOf('up'))).toBe('up');
});

test('each part is written as it was', () => {
  const piece = piecesOf('sum(\n  rate(x[5m])\n)');
  expect(piece?.children[0]?.expr).toBe('rate(x[5m])');
});

test('what has no parts to ask, and what cannot be read', () => {
  expect(piecesOf('1 + 1')?.children).toEqual([]);
  expect(piecesOf('42')).toBeUndefined();
  expect(piecesOf('sum(')).toBeUndefined();
  expect(piecesOf('')).toBeUndefined();
});
