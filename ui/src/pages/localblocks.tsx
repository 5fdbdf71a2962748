// Blocks on the local disk.
import { useContext, useMemo } from 'preact/hooks';
import type { LocalBlock } from '../api/shapes';
import { fromBucket, groupsOf } from '../bucket/blocks';
import { Timeline } from '../bucket/timeline';
import { SharedContext } from '../context';
import { bytes, count, dateTime, span } from '../format';
import { useParam } from '../location';

export function LocalBlocks({ blocks }: { blocks: LocalBlock[] }) {
  const { utc } = useContext(SharedContext);
  const [chosen, setChosen] = useParam('block', '');
  const newest = [...blocks].sort((a, b) => b.minTime - a.minTime || a.compaction.level - b.compaction.level);
  const shipped = blocks.some((b) => b.shipped !== undefined);
  const group = useMemo(
    () => groupsOf(blocks.map((b) => fromBucket({ ...b, resolution: 0, labels: {}, source: '' })))[0],
    [blocks],
  );
  const frame = { from: Math.min(...blocks.map((b) => b.minTime)), to: Math.max(...blocks.map((b) => b.maxTime)) };
  return (
    <>
      {group && <Timeline group={group} frame={frame} chosen={chosen} onChoose={(b) => setChosen(b.ulid === chosen ? '' : b.ulid)} onZoom={() => {}} />}
      <div class="table-wrap">
        <table class="blocks">
          <thead>
            <tr>
              <th scope="col">Block</th>
              <th scope="col">From</th>
              <th scope="col">Span</th>
              <th scope="col">Level</th>
              <th scope="col" class="right">Series</th>
              <th scope="col" class="right">Samples</th>
              <th scope="col" class="right">Size</th>
              {shipped && <th scope="col">In the bucket</th>}
            </tr>
          </thead>
          <tbody>
            {newest.map((b) => (
              <tr key={b.ulid} class={b.ulid === chosen ? 'chosen' : undefined}>
                <td class="mono">{b.ulid}</td>
                <td class="nowrap">{dateTime(b.minTime, utc)}</td>
                <td class="nowrap">{span(b.maxTime - b.minTime)}</td>
                <td>{b.compaction.level}</td>
                <td class="value">{count(b.stats.numSeries)}</td>
                <td class="value">{count(b.stats.numSamples)}</td>
                <td class="value nowrap">{b.bytes == null ? '–' : bytes(b.bytes)}</td>
                {shipped && <td>{b.shipped ? <span class="badge good">yes</span> : <span class="badge">not yet</span>}</td>}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
