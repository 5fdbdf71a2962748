import { expect, test } from 'vitest';
import { type Block, fromMeta, groupsOf, resolutionText } from './blocks';

const block = (ulid: string, min: number, max: number, more: Partial<Block> = {}): Block => ({
  ...fromMeta({ ulid, minTime: min, maxTime: max }),
  ...more,
});

test('blocks stand in a row for each resolution and level', () => {
  const [group] = groupsOf([
    block('B', 10, 20),
    block('A', 0, 10),
    block('C', 0, 20, { level: 2 }),
    block('D', 0, 20, { level: 2, resolution: 300_000 }),
  ]);
  expect(group?.rows.map((row) => [row.resolution, row.level, row.overlap, row.blocks.map((b) => b.ulid)])).toEqual([
    [0, 2, false, ['C']],
    [0, 1, false, ['A', 'B']],
    [300_000, 2, false, ['D']],
  ]);
});

test('what overlaps stands below', () => {
  const [group] = groupsOf([block('A', 0, 10), block('B', 5, 15), block('C', 10, 20)]);
  expect(group?.rows.map((row) => [row.overlap, row.blocks.map((b) => b.ulid)])).toEqual([
    [false, ['A', 'C']],
    [true, ['B']],
  ]);
});

test('groups are those of the external labels, with their sizes', () => {
  const groups = groupsOf([
    block('A', 0, 1, { labels: { cluster: 'b' }, bytes: 5 }),
    block('B', 0, 1, { labels: { cluster: 'a' }, bytes: 2 }),
    block('C', 1, 2, { labels: { cluster: 'a' }, bytes: 1 }),
  ]);
  expect(groups.map((g) => [g.key, g.bytes])).toEqual([['{cluster="a"}', 3], ['{cluster="b"}', 5]]);
});

test('meta.json is read, whatever is missing in it', () => {
  expect(fromMeta({ ulid: 'X', minTime: 1, maxTime: 2 })).toMatchObject({ level: 1, resolution: 0, labels: {}, bytes: undefined });
  const whole = fromMeta({
    ulid: 'X', minTime: 1, maxTime: 2,
    compaction: { level: 3, sources: ['a', 'b'], parents: [{ ulid: 'p' }] },
    thanos: { labels: { a: 'b' }, downsample: { resolution: 3_600_000 }, source: 'compactor', files: [{ rel_path: 'index', size_bytes: 4 }, { rel_path: 'meta.json' }] },
  });
  expect(whole).toMatchObject({ bytes: 4, parents: ['p'], source: 'compactor' });
  expect(resolutionText(whole.resolution)).toBe('1h');
});
