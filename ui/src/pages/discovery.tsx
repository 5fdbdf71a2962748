// What was found, and what relabelling made of it.
import { useMemo } from 'preact/hooks';
import type { Labels, RelabelRule, RelabelStep, TargetsData } from '../api/shapes';
import { count } from '../format';
import { useOpen, usePolled } from '../hooks';
import { useParam } from '../location';
import { Choice, Empty, ErrorNotice, Spinner } from '../parts/basics';
import { LabelChips } from '../parts/labels';
import { counted, Page, useLive } from '../parts/page';
import { SearchField, wordsOf } from '../parts/search';
import { VirtualList } from '../parts/virtual';

interface Found {
  pool: string;
  discovered: Labels;
  /** Absent if it was dropped. */
  labels?: Labels;
}
type Row =
  | { kind: 'pool'; key: string; name: string; active: number; dropped: number; kept: number }
  | { kind: 'found'; key: string; found: Found };

export function DiscoveryPage() {
  const targets = useLive<TargetsData>('targets', 10_000);
  const [state, setState] = useParam('state', 'all');
  const [search, setSearch] = useParam('search', '');
  const [closed, toggle] = useOpen();
  const [stepped, step] = useOpen();
  const all = useMemo(() => foundIn(targets.data), [targets.data]);
  const rows = useMemo(() => {
    const counts = targets.data?.droppedTargetCounts ?? {};
    const matches = wordsOf(search);
    const wants = (one: Found) => (state === 'all' || (state === 'active') === (one.labels !== undefined)) && matches(textOf(one));
    return rowsOf(all, counts, wants, closed);
  }, [all, state, search, closed]);
  const number = (name: string) => all.filter((one) => name === 'all' || (name === 'active') === (one.labels !== undefined)).length;
  return (
    <Page
      title="Service discovery"
      live={targets}
      filters={
        <>
          <Choice label="State" value={state} onChange={setState} options={counted(['all', 'active', 'dropped'], number)} />
          <SearchField label="Search labels and values" value={search} onChange={setSearch} />
        </>
      }
    >
      {targets.data && all.length === 0 && (
        <Empty title="Nothing was found">No mechanism in the configuration has named a target yet.</Empty>
      )}
      {all.length > 0 && rows.length === 0 && <Empty title="Nothing matches" />}
      <VirtualList
        items={rows}
        keyOf={(row) => row.key}
        estimate={(row) => (row.kind === 'pool' ? 54 : 90)}
        label="Found targets"
        render={(row) => (row.kind === 'pool' ? <PoolHead row={row} open={!closed.has(row.name)} onToggle={() => toggle(row.name)} /> : <FoundRow found={row.found} open={stepped.has(row.key)} onToggle={() => step(row.key)} />)}
      />
    </Page>
  );
}

function foundIn(data: TargetsData | undefined): Found[] {
  if (!data) return [];
  return [
    ...data.activeTargets.map((t) => ({ pool: t.scrapePool, discovered: t.discoveredLabels, labels: t.labels })),
    ...(data.droppedTargets ?? []).map((t) => ({ pool: t.scrapePool, discovered: t.discoveredLabels })),
  ];
}

function rowsOf(all: Found[], counts: Record<string, number>, wants: (one: Found) => boolean, closed: ReadonlySet<string>): Row[] {
  const pools = new Map<string, Found[]>();
  for (const one of all) {
    const list = pools.get(one.pool);
    if (list) list.push(one);
    else pools.set(one.pool, [one]);
  }
  return [...pools].sort(([a], [b]) => a.localeCompare(b)).flatMap(([name, list]): Row[] => {
    const shown = list.filter(wants);
    if (shown.length === 0) return [];
    const active = list.filter((one) => one.labels).length;
    const kept = list.length - active;
    const head: Row = { kind: 'pool', key: name, name, active, dropped: counts[name] ?? kept, kept };
    if (closed.has(name)) return [head];
    return [head, ...shown.map((found, i): Row => ({ kind: 'found', key: `${name};${i}`, found }))];
  });
}

function textOf({ pool, discovered, labels }: Found): string {
  return [pool, ...Object.entries({ ...discovered, ...labels }).map(([n, v]) => `${n}="${v}"`)].join(' ');
}

function PoolHead({ row, open, onToggle }: { row: Row & { kind: 'pool' }; open: boolean; onToggle: () => void }) {
  return (
    <div class="group-head">
      <button type="button" class="twist" aria-expanded={open} aria-label={`Pool ${row.name}`} onClick={onToggle} />
      <h2>{row.name}</h2>
      <span class="badge good">{count(row.active)} active</span>
      {row.dropped > 0 && <span class="badge">{count(row.dropped)} dropped</span>}
      {row.dropped > row.kept && <span class="muted small">the first {count(row.kept)} dropped ones are known (keep_dropped_targets)</span>}
    </div>
  );
}

function FoundRow({ found, open, onToggle }: { found: Found; open: boolean; onToggle: () => void }) {
  return (
    <div class="found-row">
      <div>
        <h3>Discovered</h3>
        <LabelChips labels={found.discovered} />
      </div>
      <div>
        <h3>{found.labels ? 'Target' : 'Dropped'}</h3>
        {found.labels ? <LabelChips labels={found.labels} /> : <span class="muted small">by relabelling</span>}
        <div>
          <button type="button" class="quiet tiny" aria-expanded={open} onClick={onToggle}>
            {open ? 'hide the steps' : 'step by step'}
          </button>
        </div>
      </div>
      {open && <Steps found={found} />}
    </div>
  );
}

/** What each rule made of the labels. */
function Steps({ found }: { found: Found }) {
  const given = new URLSearchParams({ scrapePool: found.pool, labels: JSON.stringify(found.discovered) });
  const { data, error } = usePolled<{ steps: RelabelStep[] }>(`targets/relabel_steps?${given}`, 0);
  if (error) return <ErrorNotice error={error} />;
  if (!data) return <Spinner label="Asking what each rule did" />;
  if (data.steps.length === 0) return <p class="muted small">This pool has no relabelling rules.</p>;
  return (
    <ol class="steps" aria-label="Relabelling rules">
      {data.steps.map((step, i) => {
        const before = i === 0 ? found.discovered : (data.steps[i - 1]?.output ?? {});
        const { set, gone } = changes(before, step.output);
        const skipped = i > 0 && !data.steps[i - 1]?.keep;
        return (
          <li key={i} class={skipped ? 'muted' : undefined}>
            <code>{ruleShown(step.rule)}</code>
            {skipped ? (
              <span class="small"> not reached</span>
            ) : !step.keep ? (
              <span class="badge bad">dropped</span>
            ) : Object.keys(set).length + gone.length === 0 ? (
              <span class="muted small"> changes nothing</span>
            ) : (
              <>
                <LabelChips labels={set} />
                {gone.length > 0 && <span class="muted small"> without {gone.join(', ')}</span>}
              </>
            )}
          </li>
        );
      })}
    </ol>
  );
}

/** The labels that are new or other than before, and the names of those that are gone. */
export function changes(before: Labels, after: Labels): { set: Labels; gone: string[] } {
  const set = Object.fromEntries(Object.entries(after).filter(([name, value]) => before[name] !== value));
  return { set, gone: Object.keys(before).filter((name) => !(name in after)) };
}

/** A rule in one line, without what is as it always is. */
export function ruleShown(rule: RelabelRule): string {
  const usual: Record<string, string> = { separator: ';', regex: '(.*)', replacement: '$1' };
  const said = Object.entries(rule).filter(([name, value]) => name !== 'action' && usual[name] !== value);
  return [rule.action, ...said.map(([name, value]) => `${name}=${Array.isArray(value) ? `[${value.join(', ')}]` : value}`)].join(' ');
}
