// Blocks, on a line of time and as a table.
import { useContext } from 'preact/hooks';
import type { Block } from '../api';
import { SharedContext } from '../context';
import { bytes, count, dateTime, span } from '../format';
import { LabelChips } from '../parts';

export function BlockTable({ blocks }: { blocks: Block[] }) {
  const { utc } = useContext(SharedContext);
  const newest = [...blocks].sort((a, b) => b.minTime - a.minTime || a.compaction.level - b.compaction.level);
  const has = (pick: (b: Block) => unknown) => blocks.some((b) => pick(b) !== undefined && pick(b) !== null);
  const labels = has((b) => b.labels);
  const shipped = has((b) => b.shipped);
  const size = has((b) => b.bytes);
  return (
    <>
      <Timeline blocks={blocks} utc={utc} />
      <div class="table-wrap">
        <table class="blocks">
          <thead>
            <tr>
              <th scope="col">Block</th>
              <th scope="col">From</th>
              <th scope="col">Span</th>
              <th scope="col">Level</th>
              {labels && <th scope="col">Resolution</th>}
              <th scope="col" class="right">Series</th>
              <th scope="col" class="right">Samples</th>
              {size && <th scope="col" class="right">Size</th>}
              {shipped && <th scope="col">In the bucket</th>}
              {labels && <th scope="col">Labels</th>}
            </tr>
          </thead>
          <tbody>
            {newest.map((b) => (
              <tr key={b.ulid}>
                <td class="mono">{b.ulid}</td>
                <td class="nowrap">{dateTime(b.minTime, utc)}</td>
                <td class="nowrap">{span(b.maxTime - b.minTime)}</td>
                <td>{b.compaction.level}</td>
                {labels && <td class="nowrap">{b.resolution ? span(b.resolution) : 'raw'}</td>}
                <td class="value">{count(b.stats.numSeries)}</td>
                <td class="value">{count(b.stats.numSamples)}</td>
                {size && <td class="value nowrap">{b.bytes == null ? '–' : bytes(b.bytes)}</td>}
                {shipped && (
                  <td>{b.shipped ? <span class="badge good">yes</span> : <span class="badge">not yet</span>}</td>
                )}
                {labels && (
                  <td>
                    <LabelChips labels={b.labels ?? {}} />
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** Each block as a bar over its time, one row for each level. */
function Timeline({ blocks, utc }: { blocks: Block[]; utc: boolean }) {
  const from = Math.min(...blocks.map((b) => b.minTime));
  const to = Math.max(...blocks.map((b) => b.maxTime));
  const levels = [...new Set(blocks.map((b) => b.compaction.level))].sort((a, b) => a - b);
  const whole = Math.max(1, to - from);
  const percent = (ms: number) => `${(100 * (ms - from)) / whole}%`;
  return (
    <div class="timeline" role="img" aria-label={`${blocks.length} blocks over ${span(whole)}`}>
      {levels.map((level) => (
        <div class="lane" key={level}>
          {blocks
            .filter((b) => b.compaction.level === level)
            .map((b) => (
              <i
                key={b.ulid}
                title={`${b.ulid}: ${dateTime(b.minTime, utc)}, ${span(b.maxTime - b.minTime)}`}
                style={{ left: percent(b.minTime), width: `${(100 * (b.maxTime - b.minTime)) / whole}%` }}
              />
            ))}
        </div>
      ))}
      <div class="ends">
        <span>{dateTime(from, utc, false)}</span>
        <span>{dateTime(to, utc, false)}</span>
      </div>
    </div>
  );
}
