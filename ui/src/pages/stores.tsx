// The stores that a querier asks: who is there, what time and which labels they have.
import { useContext, useMemo } from 'preact/hooks';
import type { Store, StoresData } from '../api/shapes';
import { SharedContext } from '../context';
import { ago, count, dateTime } from '../format';
import { useParam } from '../location';
import { Choice, Empty } from '../parts/basics';
import { LabelChips } from '../parts/labels';
import { counted, Page, useLive } from '../parts/page';
import { SearchField, wordsOf } from '../parts/search';
import { VirtualList } from '../parts/virtual';

type Row = { kind: 'component'; key: string; name: string; stores: Store[] } | { kind: 'store'; key: string; store: Store };

/** Times that mean "since ever" and "for ever": Go's and our own limits, and what stores say without data. */
const EVER = 8e15;

export function StoresPage() {
  const stores = useLive<StoresData>('stores', 5000);
  const [health, setHealth] = useParam('health', 'all');
  const [search, setSearch] = useParam('search', '');
  const all = useMemo(() => Object.values(stores.data ?? {}).flat(), [stores.data]);
  const rows = useMemo(() => {
    const matches = wordsOf(search);
    return Object.entries(stores.data ?? {}).flatMap(([name, list]): Row[] => {
      const shown = list.filter((s) => (health === 'all' || healthOf(s) === health) && matches(textOf(name, s)));
      if (shown.length === 0) return [];
      const rows = shown.map((store): Row => ({ kind: 'store', key: `${name};${store.name}`, store }));
      return [{ kind: 'component', key: name, name, stores: list }, ...rows];
    });
  }, [stores.data, health, search]);
  const frame = useMemo(() => frameOf(all), [all]);
  return (
    <Page
      title="Stores"
      live={stores}
      absent={<Empty title="No stores here">Only a querier has stores to ask; this process answers from its own data.</Empty>}
      filters={
        <>
          <Choice
            label="Health"
            value={health}
            onChange={setHealth}
            options={counted(['all', 'up', 'down'], (name) => all.filter((s) => name === 'all' || healthOf(s) === name).length)}
          />
          <SearchField label="Search addresses, labels, errors" value={search} onChange={setSearch} />
        </>
      }
    >
      {stores.data && all.length === 0 && (
        <Empty title="No store is known">
          <span class="mono">--endpoint</span> and <span class="mono">--store.sd-files</span> say which there are.
        </Empty>
      )}
      {all.length > 0 && rows.length === 0 && <Empty title="No store matches" />}
      <VirtualList
        items={rows}
        keyOf={(row) => row.key}
        estimate={(row) => (row.kind === 'component' ? 54 : 84)}
        label="Stores"
        render={(row) =>
          row.kind === 'component' ? <Head row={row} /> : <StoreRow store={row.store} frame={frame} />
        }
      />
    </Page>
  );
}

function healthOf(store: Store): string {
  return store.lastError ? 'down' : 'up';
}

function textOf(component: string, store: Store): string {
  const labels = store.labelSets.flatMap((set) => Object.entries(set).map(([n, v]) => `${n}="${v}"`));
  return [component, store.name, store.lastError ?? '', ...labels].join(' ');
}

/** The time that all stores span, ms; open ends are not counted. */
export function frameOf(stores: Store[], now = Date.now()): { from: number; to: number } {
  const ends = stores.flatMap((s) => [s.minTime, s.maxTime]).filter((ms) => Math.abs(ms) < EVER && ms > 0);
  return { from: Math.min(now - 3600e3, ...ends), to: Math.max(now, ...ends.filter((ms) => ms < now + 86400e3)) };
}

function Head({ row }: { row: Row & { kind: 'component' } }) {
  const down = row.stores.filter((s) => s.lastError).length;
  return (
    <div class="group-head">
      <h2>{row.name}</h2>
      <span class={down > 0 ? 'badge bad' : 'badge good'}>
        {count(row.stores.length - down)} of {count(row.stores.length)} up
      </span>
    </div>
  );
}

function StoreRow({ store, frame }: { store: Store; frame: { from: number; to: number } }) {
  const { utc } = useContext(SharedContext);
  const time = (ms: number, open: string) => (Math.abs(ms) >= EVER || ms <= 0 ? open : dateTime(ms, utc, false));
  const whole = Math.max(1, frame.to - frame.from);
  const clamp = (ms: number) => Math.min(100, Math.max(0, (100 * (ms - frame.from)) / whole));
  // One that never answered has said nothing about its time.
  const known = !store.lastError || store.labelSets.length > 0;
  const [left, right] = [clamp(store.minTime), clamp(store.maxTime)];
  return (
    <div class="store-row">
      <span class={`badge ${store.lastError ? 'bad' : 'good'}`}>{healthOf(store)}</span>
      <div>
        <div class="mono">{store.name}</div>
        {store.labelSets.map((set, i) => (
          <div key={i}>
            <LabelChips labels={set} />
          </div>
        ))}
        {store.lastError && <div class="target-error">{store.lastError}</div>}
      </div>
      <div class="store-time">
        {known && (
          <>
            <div class="lane" aria-hidden="true">
              <i style={{ left: `${left}%`, width: `${Math.max(0.8, right - left)}%` }} />
            </div>
            <div class="ends">
              <span>{time(store.minTime, 'the beginning')}</span>
              <span>{time(store.maxTime, 'now and on')}</span>
            </div>
          </>
        )}
      </div>
      <span class="muted small nowrap numbers">{ago(store.lastCheck)}</span>
    </div>
  );
}
