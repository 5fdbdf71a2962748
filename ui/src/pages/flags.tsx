// The flags in force.
import type { ComponentChildren } from 'preact';
import { useLive, Page } from '../parts/page';
import { useParam } from '../location';
import { Empty } from '../parts/basics';
import { SearchField, wordsOf } from '../parts/search';

export function FlagsPage() {
  const flags = useLive<Record<string, string>>('status/flags', 0);
  const [search, setSearch] = useParam('search', '');
  const matches = wordsOf(search);
  const shown = Object.entries(flags.data ?? {})
    .filter(([name, value]) => matches(`--${name}=${value}`))
    .sort(([a], [b]) => a.localeCompare(b));
  return (
    <Page title="Flags" filters={<SearchField label="Search flags" value={search} onChange={setSearch} />}>
      {shown.length > 0 && (
        <section class="card table-wrap">
          <table class="flags">
            <thead>
              <tr>
                <th scope="col">Flag</th>
                <th scope="col">Value</th>
              </tr>
            </thead>
            <tbody>
              {shown.map(([name, value]) => (
                <tr key={name}>
                  <td class="mono">--{name}</td>
                  <td class="mono">{value === '' ? <Nothing>empty</Nothing> : value}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
      {flags.data && shown.length === 0 && <Empty title="No flag matches" />}
    </Page>
  );
}

function Nothing({ children }: { children: ComponentChildren }) {
  return <span class="muted small">{children}</span>;
}
