// What is scraped, and how it goes.
import { useContext, useMemo } from 'preact/hooks';
import type { Target, TargetsData } from '../api/shapes';
import { SharedContext } from '../context';
import { ago, count, dateTime, span } from '../format';
import { useOpen } from '../hooks';
import { useParam } from '../location';
import { Choice, Empty, Link } from '../parts/basics';
import { LabelChips } from '../parts/labels';
import { counted, Page, useLive } from '../parts/page';
import { SearchField, wordsOf } from '../parts/search';
import { VirtualList } from '../parts/virtual';

const HEALTHS = ['all', 'up', 'down', 'unknown'] as const;
const TONE = { up: 'good', down: 'bad', unknown: '' } as const;

interface Pool {
  name: string;
  up: number;
  down: number;
  all: number;
  dropped: number;
}
type Row = { kind: 'pool'; key: string; pool: Pool } | { kind: 'target'; key: string; target: Target };

export function TargetsPage() {
  const targets = useLive<TargetsData>('targets?state=active', 5000);
  const { gathering } = useContext(SharedContext);
  const [health, setHealth] = useParam('health', 'all');
  const [search, setSearch] = useParam('search', '');
  const [closed, togglePool] = useOpen();
  const [open, toggleTarget] = useOpen();
  const active = targets.data?.activeTargets;
  const rows = useMemo(
    () => rowsOf(active ?? [], { health, matches: wordsOf(search), closed }),
    [active, health, search, closed],
  );
  const number = (wanted: string) => (active ?? []).filter((t) => wanted === 'all' || t.health === wanted).length;
  return (
    <Page
      title="Targets"
      live={targets}
      filters={
        <>
          <Choice label="Health" value={health} onChange={setHealth} options={counted(HEALTHS, number)} />
          <SearchField label="Search labels, addresses, errors" value={search} onChange={setSearch} />
        </>
      }
    >
      {active?.length === 0 && gathering && (
        <Empty title="Nothing is scraped">
          None of the <Link to="/stores">stores</Link> that are asked has targets.
        </Empty>
      )}
      {active?.length === 0 && !gathering && (
        <Empty title="Nothing is scraped yet">
          No target has been found. Which ones there are is said by <span class="mono">scrape_configs</span> in the{' '}
          <Link to="/config">configuration</Link>; what was found and dropped stands under{' '}
          <Link to="/service-discovery">Service discovery</Link>.
        </Empty>
      )}
      {active && active.length > 0 && rows.length === 0 && (
        <Empty title="No target matches">
          <button
            type="button"
            class="example"
            onClick={() => {
              setHealth('all');
              setSearch('');
            }}
          >
            Show all {count(active.length)}
          </button>
        </Empty>
      )}
      <VirtualList
        items={rows}
        keyOf={(row) => row.key}
        estimate={(row) => (row.kind === 'pool' ? 54 : 58)}
        label="Scrape pools and targets"
        render={(row) =>
          row.kind === 'pool' ? (
            <PoolHead pool={row.pool} open={!closed.has(row.pool.name)} onToggle={() => togglePool(row.pool.name)} />
          ) : (
            <TargetRow target={row.target} open={open.has(row.key)} onToggle={() => toggleTarget(row.key)} />
          )
        }
      />
    </Page>
  );
}

/** Pools with those of their targets that are wanted. */
export function rowsOf(
  active: Target[],
  given: { health: string; matches: (text: string) => boolean; closed: ReadonlySet<string> },
): Row[] {
  const pools = new Map<string, { pool: Pool; rows: Row[] }>();
  active.forEach((target) => {
    const name = target.scrapePool;
    const found = pools.get(name) ?? { pool: { name, up: 0, down: 0, all: 0, dropped: 0 }, rows: [] };
    pools.set(name, found);
    found.pool.all++;
    if (target.health === 'up') found.pool.up++;
    if (target.health === 'down') found.pool.down++;
    if ((given.health !== 'all' && target.health !== given.health) || !given.matches(textOf(target))) return;
    found.rows.push({ kind: 'target', key: `${name};${target.scrapeUrl};${Object.values(target.labels).join(';')}`, target });
  });
  return [...pools.values()].flatMap(({ pool, rows }): Row[] => {
    if (rows.length === 0) return [];
    const head: Row = { kind: 'pool', key: pool.name, pool };
    return given.closed.has(pool.name) ? [head] : [head, ...rows];
  });
}

function textOf(t: Target): string {
  const labels = Object.entries(t.labels).map(([name, value]) => `${name}="${value}"`);
  return [t.scrapeUrl, t.scrapePool, t.lastError, ...labels].join(' ');
}

function PoolHead({ pool, open, onToggle }: { pool: Pool; open: boolean; onToggle: () => void }) {
  const tone = pool.down > 0 ? 'bad' : pool.up === pool.all ? 'good' : '';
  return (
    <div class="group-head">
      <button type="button" class="twist" aria-expanded={open} aria-label={`Pool ${pool.name}`} onClick={onToggle} />
      <h2>{pool.name}</h2>
      <span class={`badge ${tone}`}>
        {count(pool.up)} of {count(pool.all)} up
      </span>
      <span class="pool-bar" aria-hidden="true">
        <i style={{ width: `${(100 * pool.up) / pool.all}%` }} />
        <i class="down" style={{ width: `${(100 * pool.down) / pool.all}%` }} />
      </span>
    </div>
  );
}

function TargetRow({ target, open, onToggle }: { target: Target; open: boolean; onToggle: () => void }) {
  const { utc } = useContext(SharedContext);
  const scraped = !target.lastScrape.startsWith('0001');
  return (
    <div class="target-row">
      <span class={`badge ${TONE[target.health]}`}>{target.health}</span>
      <div>
        <a href={target.globalUrl} class="mono" rel="noreferrer">
          {target.scrapeUrl}
        </a>
        <div class="target-labels">
          <LabelChips labels={target.labels} />
          <button type="button" class="quiet tiny" aria-expanded={open} onClick={onToggle}>
            {open ? 'hide' : 'before relabelling'}
          </button>
        </div>
        {open && (
          <div class="discovered">
            <LabelChips labels={target.discoveredLabels} />
          </div>
        )}
        {target.lastError && <div class="target-error">{target.lastError}</div>}
      </div>
      <span class="muted small nowrap numbers" title={scraped ? dateTime(Date.parse(target.lastScrape), utc) : undefined}>
        {scraped ? ago(target.lastScrape) : target.scrapeInterval ? `due within ${target.scrapeInterval}` : 'not yet'}
      </span>
      <span class="muted small nowrap numbers" title={target.scrapeInterval ? `every ${target.scrapeInterval}, at most ${target.scrapeTimeout}` : undefined}>
        {scraped ? span(target.lastScrapeDuration * 1000) : '–'}
      </span>
    </div>
  );
}
