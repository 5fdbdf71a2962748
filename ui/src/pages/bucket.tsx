// What lies in the bucket, for ever.
import { useContext, useMemo, useState } from 'preact/hooks';
import { type Block, type BlocksData, type BucketData, fromBucket, fromMeta, groupsOf, type PlanData, resolutionText } from '../bucket/blocks';
import { Details } from '../bucket/details';
import { type Frame, Timeline } from '../bucket/timeline';
import { SharedContext } from '../context';
import { ago, bytes, count, dateTime, span } from '../format';
import { usePolled, useTick } from '../hooks';
import { useParam } from '../location';
import { Choice, Empty, ErrorNotice, Notice } from '../parts/basics';
import { LabelChips } from '../parts/labels';
import { counted, Page, useLive } from '../parts/page';
import { SearchField, wordsOf } from '../parts/search';
import { Tile } from '../parts/tile';
import { VirtualList } from '../parts/virtual';

const ABSENT = (
  <Empty title="No bucket here">
    This process ships nothing to a bucket and reads from none. <span class="mono">--objstore.config-file</span> names one;{' '}
    <span class="mono">all-in-one</span> has one in its data folder by itself.
  </Empty>
);

/** The bucket of a process that ships or serves one of its own. */
export function BucketPage() {
  const bucket = useLive<BucketData>('status/bucket', 10_000);
  const blocks = useMemo(() => (bucket.data?.blocks ?? []).map(fromBucket), [bucket.data]);
  const { data } = bucket;
  useTick(1000);
  return (
    <Page title="Bucket" note={data && <span class="mono">{data.location}</span>} live={bucket} absent={ABSENT}>
      {data?.lastError && (
        <Notice tone="bad" title="The bucket does not answer as it should.">
          <span class="mono">{data.lastError}</span>
        </Notice>
      )}
      {data && blocks.length === 0 && <NoBlock due={data.nextBlockDue} />}
      {data && blocks.length > 0 && (
        <Blocks blocks={blocks} listed={data.lastSync} partial={data.partial} due={data.nextBlockDue} mayMark={false} onMarked={bucket.again} />
      )}
    </Page>
  );
}

/** The bucket as `tools bucket web`, `store` and `compact` show it. */
export function BlocksPage({ view }: { view: 'global' | 'loaded' }) {
  const answer = useLive<BlocksData>(`blocks?view=${view}`, 15_000);
  const flags = usePolled<Record<string, string>>('status/flags', 0);
  const { data } = answer;
  const blocks = useMemo(() => (data?.blocks ?? []).map(fromMeta), [data]);
  // Processes that have no such flag have no such button.
  const mayMark = view === 'global' && flags.data?.['disable-admin-operations'] === 'false';
  const error = data?.err && Object.keys(data.err).length > 0 ? JSON.stringify(data.err) : undefined;
  return (
    <Page title={view === 'loaded' ? 'Loaded blocks' : 'Blocks'} note={data?.label} live={answer} absent={ABSENT}>
      {data?.err && (
        <Notice tone="bad" title="The bucket does not answer as it should.">
          <span class="mono">{typeof data.err === 'string' ? data.err : error}</span>
        </Notice>
      )}
      <Planned />
      {data && blocks.length === 0 && <NoBlock due={null} />}
      {data && blocks.length > 0 && (
        <Blocks blocks={blocks} listed={data.refreshedAt} partial={0} due={null} mayMark={mayMark} onMarked={answer.again} />
      )}
    </Page>
  );
}

/** What a compactor does next, and what keeps it from doing more; nothing elsewhere. */
function Planned() {
  const { data } = usePolled<PlanData>('blocks/plan', 15_000);
  if (!data) return null;
  const { todo, halted } = data;
  const things = todo && [
    [todo.compactions, `compactions of ${count(todo.blocks)} blocks, ${bytes(todo.bytes)}`],
    [todo.downsamples, 'blocks to downsample'],
    [todo.deletions, 'blocks to delete'],
  ];
  const planned = (things ?? []).filter(([number]) => Number(number) > 0);
  return (
    <>
      {Object.entries(halted).map(([group, why]) => (
        <Notice key={group} tone="bad" title={`Compaction of ${group} has halted.`}>
          <span class="mono">{why}</span>
        </Notice>
      ))}
      {planned.length > 0 && (
        <Notice tone="info" title="Planned.">
          {planned.map(([number, what]) => `${count(Number(number))} ${what}`).join('; ')}
        </Notice>
      )}
    </>
  );
}

function NoBlock({ due: iso }: { due: string | null }) {
  const { utc } = useContext(SharedContext);
  const due = iso ? Date.parse(iso) : undefined;
  return (
    <Empty title="No block in the bucket yet">
      {due === undefined
        ? 'This process cuts no blocks itself; it shows what others put there. Those who ship cut a block every two hours, the first one about three hours after they started.'
        : due > Date.now()
          ? `The first block is cut and shipped in about ${span(due - Date.now())}, at ${dateTime(due, utc)}. Until then all samples are in the head, and queries see them.`
          : 'The first block is due now: it is being cut and shipped.'}
    </Empty>
  );
}

interface BlocksProps {
  blocks: Block[];
  listed: string;
  partial: number;
  due: string | null;
  mayMark: boolean;
  onMarked: () => void;
}

function Blocks(props: BlocksProps) {
  const { blocks } = props;
  const { utc } = useContext(SharedContext);
  const [search, setSearch] = useParam('search', '');
  const [resolution, setResolution] = useParam('resolution', 'all');
  const [chosen, setChosen] = useParam('block', '');
  const [zoom, setZoom] = useState<Frame>();
  const shown = useMemo(() => {
    const matches = wordsOf(search);
    return blocks.filter((b) => (resolution === 'all' || resolutionText(b.resolution) === resolution) && matches(textOf(b)));
  }, [blocks, search, resolution]);
  const groups = useMemo(() => groupsOf(shown), [shown]);
  const whole = useMemo(() => frameOf(shown), [shown]);
  const frame = zoom ?? whole;
  const block = blocks.find((b) => b.ulid === chosen);
  const size = blocks.reduce((sum, b) => sum + (b.bytes ?? 0), 0);
  const due = props.due ? Date.parse(props.due) : undefined;
  const resolutions = ['all', ...new Set(blocks.map((b) => resolutionText(b.resolution)))];
  return (
    <>
      <div class="tiles">
        <Tile name="Blocks" value={count(blocks.length)} note={props.partial > 0 && `and ${count(props.partial)} not complete`} />
        <Tile name="Samples" value={count(blocks.reduce((sum, b) => sum + b.samples, 0))} />
        {size > 0 && <Tile name="Size" value={bytes(size)} note={`${(size / blocks.reduce((sum, b) => sum + b.samples, 1)).toFixed(2)} bytes a sample`} />}
        <Tile name="Time" value={span(whole.to - whole.from)} note={`from ${dateTime(whole.from, utc, false)}`} />
        {due !== undefined && (
          <Tile name="Next block" value={due > Date.now() ? `in ${span(due - Date.now())}` : 'due now'} note={dateTime(due, utc, false)} />
        )}
        <Tile name="Listed" value={ago(props.listed)} />
      </div>
      <div class="filters">
        {resolutions.length > 2 && (
          <Choice
            label="Resolution"
            value={resolution}
            onChange={setResolution}
            options={counted(resolutions, (name) => blocks.filter((b) => name === 'all' || resolutionText(b.resolution) === name).length)}
          />
        )}
        <SearchField label="Search labels, ULIDs, marks" value={search} onChange={setSearch} />
        {zoom ? (
          <button type="button" class="control" onClick={() => setZoom(undefined)}>
            Show all the time
          </button>
        ) : (
          <span class="muted small">Drag to zoom; click a block for its details.</span>
        )}
        <span class="key">
          <i class="block raw" /> raw <i class="block coarse" /> 5m <i class="block coarser" /> 1h
          <i class="block marked" /> marked for deletion
        </span>
      </div>
      <div class={block ? 'bucket with-details' : 'bucket'}>
        <VirtualList
          items={groups}
          keyOf={(g) => g.key}
          estimate={(g) => 90 + 20 * g.rows.length}
          label="Groups of blocks"
          render={(group) => (
            <section class="card block-group">
              <div class="group-labels">
                <LabelChips labels={group.labels} />
                {Object.keys(group.labels).length === 0 && <span class="muted">no external labels</span>}
                <span class="muted small group-facts">
                  {count(group.blocks.length)} {group.blocks.length === 1 ? 'block' : 'blocks'}
                  {group.bytes > 0 && ` · ${bytes(group.bytes)}`}
                </span>
              </div>
              <Timeline group={group} frame={frame} chosen={chosen} onChoose={(b) => setChosen(b.ulid === chosen ? '' : b.ulid)} onZoom={setZoom} />
            </section>
          )}
        />
        {groups.length === 0 && <Empty title="No block matches" />}
        {block && <Details block={block} mayMark={props.mayMark} onClose={() => setChosen('')} onMarked={props.onMarked} onChoose={setChosen} />}
      </div>
      {chosen && !block && <ErrorNotice error={{ type: 'not_found', message: `block ${chosen} is not in the bucket`, status: 404, name: '' }} />}
    </>
  );
}

function textOf(block: Block): string {
  const labels = Object.entries(block.labels).map(([n, v]) => `${n}="${v}"`);
  return [block.ulid, block.source, ...labels, ...block.marks.map((m) => m.kind)].join(' ');
}

function frameOf(blocks: Block[]): Frame {
  let [from, to] = [Infinity, -Infinity];
  for (const b of blocks) {
    from = Math.min(from, b.min);
    to = Math.max(to, b.max);
  }
  return from < to ? { from, to } : { from: 0, to: 1 };
}
