// What only a querier over many stores is asked: replicas, missing parts, coarser data, which stores.
import { useState } from 'preact/hooks';
import type { StoresData } from '../api/shapes';
import { count } from '../format';
import { usePolled } from '../hooks';
import { Icon } from '../parts/icons';
import { MenuItem, Popover } from '../parts/popover';
import { SearchField, wordsOf } from '../parts/search';
import type { Panel } from './panels';

const RESOLUTIONS: [string | undefined, string][] = [
  [undefined, 'As the querier has it'],
  ['auto', 'As fits the step'],
  ['0s', 'Raw samples only'],
  ['5m', 'Up to 5 minutes'],
  ['1h', 'Up to 1 hour'],
];

export function StoreControls({ panel, onChange }: { panel: Panel; onChange: (panel: Panel) => void }) {
  return (
    <span class="store-controls" role="group" aria-label="Stores">
      <label class="switch" title="Make one series of those that differ in replica labels only">
        <input type="checkbox" checked={panel.dedup} onChange={(e) => onChange({ ...panel, dedup: e.currentTarget.checked })} />
        Deduplicate
      </label>
      <label class="switch" title="Answer with a warning when a store is away; otherwise the query fails">
        <input
          type="checkbox"
          checked={panel.partial ?? true}
          onChange={(e) => onChange({ ...panel, partial: e.currentTarget.checked ? undefined : false })}
        />
        Partial response
      </label>
      <Popover
        title="Downsampled data that may be taken"
        label={<><span class="muted">source</span> {panel.resolution ?? 'default'} <Icon name="down" size={11} /></>}
      >
        {(close) => (
          <div class="menu">
            {RESOLUTIONS.map(([value, name]) => (
              <MenuItem
                key={name}
                checked={panel.resolution === value}
                onClick={() => {
                  onChange({ ...panel, resolution: value });
                  close();
                }}
              >
                {name}
              </MenuItem>
            ))}
          </div>
        )}
      </Popover>
      <Popover
        title="Whose data"
        label={<><span class="muted">tenant</span> {panel.tenant || 'default'} <Icon name="down" size={11} /></>}
      >
        {(close) => (
          <form
            class="menu"
            onSubmit={(e) => {
              e.preventDefault();
              onChange({ ...panel, tenant: String(new FormData(e.currentTarget).get('tenant') ?? '').trim() });
              close();
            }}
          >
            <input type="text" class="field mono" name="tenant" aria-label="Tenant" placeholder="as the querier has it" defaultValue={panel.tenant} />
          </form>
        )}
      </Popover>
      <Popover
        title="Ask only some stores"
        label={<><span class="muted">stores</span> {panel.stores.length > 0 ? count(panel.stores.length) : 'all'} <Icon name="down" size={11} /></>}
      >
        {() => <StoreChooser chosen={panel.stores} onChange={(stores) => onChange({ ...panel, stores })} />}
      </Popover>
    </span>
  );
}

function StoreChooser({ chosen, onChange }: { chosen: string[]; onChange: (chosen: string[]) => void }) {
  const stores = usePolled<StoresData>('stores', 0);
  const [search, setSearch] = useState('');
  const matches = wordsOf(search);
  const all = Object.entries(stores.data ?? {}).flatMap(([component, list]) => list.map(({ name }) => ({ component, name })));
  const names = new Set(all.map((s) => s.name));
  // One that has gone is still chosen, and must be seen to be left out.
  const gone = chosen.filter((name) => stores.data && !names.has(name)).map((name) => ({ component: 'unknown', name }));
  const shown = [...all, ...gone].filter((s) => matches(`${s.component} ${s.name}`));
  const toggle = (name: string) => onChange(chosen.includes(name) ? chosen.filter((n) => n !== name) : [...chosen, name]);
  return (
    <div class="menu store-chooser">
      <SearchField label="Filter stores" value={search} onChange={setSearch} />
      <div class="store-list">
        {shown.map(({ component, name }) => (
          <label key={name} class="switch">
            <input type="checkbox" checked={chosen.includes(name)} onChange={() => toggle(name)} />
            <span class="mono">{name}</span> <span class="badge">{component}</span>
          </label>
        ))}
        {stores.data && shown.length === 0 && <p class="muted">No store.</p>}
      </div>
      {chosen.length > 0 && (
        <button type="button" class="quiet" onClick={() => onChange([])}>
          Ask all
        </button>
      )}
    </div>
  );
}
