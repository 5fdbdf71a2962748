// The local database: its head, its blocks, and what fills it.
import { useContext } from 'preact/hooks';
import { usePolled } from '../hooks';
import type { LocalBlocksData, Stat, TsdbData } from '../api/shapes';
import { SharedContext } from '../context';
import { ago, bytes, count, dateTime, span } from '../format';
import { Empty, ErrorNotice, Link, Notice } from '../parts/basics';
import { Page, useLive } from '../parts/page';
import { Tile } from '../parts/tile';
import { encode, newPanel } from '../query/panels';
import { labelText } from '../parts/labels';
import { selector } from '../query/selectors';
import { LocalBlocks } from './localblocks';

export function TsdbPage() {
  const { utc } = useContext(SharedContext);
  const head = useLive<TsdbData>('status/tsdb', 15_000);
  return (
    <Page title="Database" live={head} absent={<Empty title="No database here">This process keeps no samples itself.</Empty>}>
      {head.data && <Database data={head.data} utc={utc} />}
    </Page>
  );
}

function Database({ data, utc }: { data: TsdbData; utc: boolean }) {
  const blocks = usePolled<LocalBlocksData>('status/tsdb/blocks', 15_000);
  const { headStats: stats } = data;
  const empty = stats.minTime > stats.maxTime;
  return (
    <>
      <section class="card">
        <h2>Head</h2>
        <p class="muted">The newest samples: in memory and in the write-ahead log, not yet in a block.</p>
        <div class="tiles">
          <Tile name="Series" value={count(stats.numSeries)} />
          <Tile name="Chunks" value={count(stats.chunkCount)} />
          <Tile name="Label pairs" value={count(stats.numLabelPairs)} />
          <Tile
            name="Time"
            value={empty ? 'no samples yet' : span(stats.maxTime - stats.minTime)}
            note={empty ? 'the first come with the first scrape' : `since ${dateTime(stats.minTime, utc, false)}`}
          />
        </div>
      </section>
      <section class="card">
        <h2>Blocks on this disk</h2>
        {blocks.error && <ErrorNotice error={blocks.error} />}
        {blocks.data?.quarantined?.map((q) => (
          <Notice key={q.folder} tone="bad" title={`Block ${q.folder} is set aside.`}>
            {q.reason || 'It cannot be read.'} {Date.parse(q.since) > 0 && <span class="muted small">{ago(q.since)}</span>}
          </Notice>
        ))}
        {blocks.data?.deletedUnshipped?.map((lost) => (
          <Notice key={lost.ulid} tone="bad" title={`Block ${lost.ulid} was lost.`}>
            A full disk took it before it was shipped, {ago(lost.deletedAt)}: {dateTime(lost.minTime, utc)}, {span(lost.maxTime - lost.minTime)}.
          </Notice>
        ))}
        {blocks.data && blocks.data.blocks.length === 0 && (
          <Empty title="No block yet">
            The head is cut into a block once it spans one and a half block ranges (three hours, by default).
          </Empty>
        )}
        {blocks.data && blocks.data.blocks.length > 0 && <LocalBlocks blocks={blocks.data.blocks} />}
      </section>
      <div class="columns">
        <Stats title="Series by metric" stats={data.seriesCountByMetricName} unit="series" expr={(name) => `count(${selector(name, {})})`} />
        <Stats title="Series by label pair" stats={data.seriesCountByLabelValuePair} unit="series" expr={pairCount} />
        <Stats title="Values by label" stats={data.labelValueCountByLabelName} unit="values" expr={(name) => `count(count by (${labelText(name)}) ({${labelText(name)}!=""}))`} />
        <Stats title="Memory by label" stats={data.memoryInBytesByLabelName} unit="bytes" />
      </div>
    </>
  );
}

function Stats(props: { title: string; stats: Stat[]; unit: string; expr?: (name: string) => string }) {
  const most = Math.max(1, ...props.stats.map((s) => s.value));
  return (
    <section class="card">
      <h2>{props.title}</h2>
      <ol class="bars">
        {props.stats.map((stat) => (
          <li key={stat.name}>
            <span class="bar-fill" style={{ width: `${(100 * stat.value) / most}%` }} aria-hidden="true" />
            <span class="mono">{props.expr ? <Link to={`/query?${encode([newPanel({ expr: props.expr(stat.name) })])}`}>{stat.name}</Link> : stat.name}</span>
            <span>{props.unit === 'bytes' ? bytes(stat.value) : count(stat.value)}</span>
          </li>
        ))}
        {props.stats.length === 0 && <li class="muted">nothing yet</li>}
      </ol>
    </section>
  );
}

/** Counts the series of a pair as the statistics write it, `name=value`. */
function pairCount(pair: string): string {
  const at = pair.indexOf('=');
  return `count({${labelText(pair.slice(0, at))}=${JSON.stringify(pair.slice(at + 1))}})`;
}
