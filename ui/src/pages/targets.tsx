// What is scraped, and how it goes.
import { useContext, useMemo, useState } from 'preact/hooks';
import type { Target, TargetsData } from '../api';
import { SharedContext } from '../context';
import { ago, count, dateTime, span } from '../format';
import { usePolled, useTick } from '../hooks';
import { useParam } from '../location';
import { Choice, Empty, ErrorNotice, LabelChips, Link, Spinner } from '../parts';

export function TargetsPage() {
  const [live, setLive] = useState(true);
  const polled = usePolled<TargetsData>('targets', live ? 5000 : 0);
  const [health, setHealth] = useParam('health', 'all');
  const [search, setSearch] = useParam('search', '');
  useTick(1000);

  const active = polled.data?.activeTargets ?? [];
  const pools = useMemo(() => {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (t: Target) => {
      if (health !== 'all' && t.health !== health) return false;
      const text = [t.scrapeUrl, t.scrapePool, t.lastError, ...Object.entries(t.labels).map(([n, v]) => `${n}="${v}"`)];
      const whole = text.join(' ').toLowerCase();
      return words.every((word) => whole.includes(word));
    };
    const found = new Map<string, { all: Target[]; shown: Target[] }>();
    for (const target of active) {
      const pool = found.get(target.scrapePool) ?? { all: [], shown: [] };
      pool.all.push(target);
      if (matches(target)) pool.shown.push(target);
      found.set(target.scrapePool, pool);
    }
    return [...found];
  }, [active, health, search]);
  const number = (wanted: string) => active.filter((t) => wanted === 'all' || t.health === wanted).length;
  const dropped = polled.data?.droppedTargetCounts ?? {};
  const nothing = pools.every(([, pool]) => pool.shown.length === 0);

  return (
    <>
      <div class="page-head">
        <h1>Targets</h1>
        <label class="switch">
          <input type="checkbox" checked={live} onChange={(e) => setLive(e.currentTarget.checked)} /> Live
        </label>
        {!live && (
          <button type="button" class="quiet" onClick={polled.again}>
            Refresh
          </button>
        )}
      </div>
      <div class="filters">
        <Choice
          label="Health"
          value={health}
          onChange={setHealth}
          options={(['all', 'up', 'down', 'unknown'] as const).map((name) => [
            name,
            <>
              {name} <span class="number">{number(name)}</span>
            </>,
          ])}
        />
        <input
          type="search"
          class="search"
          placeholder="Search labels, addresses, errors"
          aria-label="Search targets"
          value={search}
          onInput={(e) => setSearch(e.currentTarget.value)}
        />
      </div>
      {polled.error && <ErrorNotice error={polled.error} />}
      {!polled.data && !polled.error && <Spinner label="Loading targets" />}
      {polled.data && active.length === 0 && (
        <Empty title="Nothing is scraped yet">
          No target has been found. Which ones there are is said by <span class="mono">scrape_configs</span> in the
          configuration; what is in force stands under <Link to="/status/config">Status</Link>.
        </Empty>
      )}
      {active.length > 0 && nothing && (
        <Empty title="No target matches">
          <button
            type="button"
            class="example"
            onClick={() => {
              setHealth('all');
              setSearch('');
            }}
          >
            Show all {active.length}
          </button>
        </Empty>
      )}
      {pools.map(([name, pool]) => pool.shown.length > 0 && <Pool key={name} name={name} {...pool} dropped={dropped[name] ?? 0} />)}
    </>
  );
}

function Pool(props: { name: string; all: Target[]; shown: Target[]; dropped: number }) {
  const up = props.all.filter((t) => t.health === 'up').length;
  const down = props.all.some((t) => t.health === 'down');
  return (
    <details class="card pool" open>
      <summary>
        <h2>{props.name}</h2>
        <span class={down ? 'badge bad' : up === props.all.length ? 'badge good' : 'badge'}>
          {count(up)} of {count(props.all.length)} up
        </span>
        {props.dropped > 0 && <span class="muted">{count(props.dropped)} dropped by relabelling</span>}
      </summary>
      <div class="table-wrap">
        <table class="targets">
          <thead>
            <tr>
              <th scope="col">Endpoint</th>
              <th scope="col">Health</th>
              <th scope="col">Labels</th>
              <th scope="col">Last scrape</th>
              <th scope="col">Took</th>
            </tr>
          </thead>
          <tbody>
            {props.shown.map((target) => (
              <Row key={target.scrapeUrl + JSON.stringify(target.labels)} target={target} />
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

function Row({ target }: { target: Target }) {
  const { utc } = useContext(SharedContext);
  const [open, setOpen] = useState(false);
  const tone = { up: 'good', down: 'bad', unknown: '' }[target.health];
  const scraped = !target.lastScrape.startsWith('0001');
  return (
    <>
      <tr>
        <td>
          <a href={target.globalUrl} class="mono" rel="noreferrer">
            {target.scrapeUrl}
          </a>
          {target.lastError && <div class="target-error">{target.lastError}</div>}
        </td>
        <td>
          <span class={`badge ${tone}`}>{target.health}</span>
        </td>
        <td>
          <LabelChips labels={target.labels} />
          <button type="button" class="quiet tiny" aria-expanded={open} onClick={() => setOpen(!open)}>
            {open ? 'hide' : 'before relabelling'}
          </button>
          {open && (
            <div class="discovered">
              <LabelChips labels={target.discoveredLabels} />
            </div>
          )}
        </td>
        <td class="nowrap" title={scraped ? dateTime(Date.parse(target.lastScrape), utc) : undefined}>
          {scraped ? ago(target.lastScrape) : `due within ${target.scrapeInterval}`}
        </td>
        <td class="nowrap" title={`every ${target.scrapeInterval}, at most ${target.scrapeTimeout}`}>
          {scraped ? span(target.lastScrapeDuration * 1000) : '–'}
        </td>
      </tr>
    </>
  );
}
