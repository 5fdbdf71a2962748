// The metrics there are: what they mean, which labels they have, how many series.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { ask } from '../api/ask';
import type { Labels, MetadataData, VectorItem } from '../api/shapes';
import { count } from '../format';
import { usePolled } from '../hooks';
import { ErrorNotice, Spinner } from '../parts/basics';
import { labelText } from '../parts/labels';
import { Dialog } from '../parts/popover';
import { SearchField, wordsOf } from '../parts/search';
import { VirtualList } from '../parts/virtual';
import { CARDINALITY, labelCounts, rateOf, selector } from './selectors';

interface Metric {
  name: string;
  type: string;
  help: string;
}

export function ExplorerDialog({ onPick, onClose }: { onPick: (expr: string) => void; onClose: () => void }) {
  const names = usePolled<string[]>('label/__name__/values', 0);
  const metadata = usePolled<MetadataData>('metadata', 0);
  const [search, setSearch] = useState('');
  const [chosen, setChosen] = useState<Metric>();
  const all = useMemo(() => {
    const known = metadata.data ?? {};
    return (names.data ?? []).map((name): Metric => {
      const about = (known[name] ?? known[name.replace(/_(bucket|count|sum|total)$/, '')])?.[0];
      return { name, type: about?.type ?? '', help: about?.help ?? '' };
    });
  }, [names.data, metadata.data]);
  const shown = useMemo(() => {
    const matches = wordsOf(search);
    return all.filter((m) => matches(`${m.name} ${m.type} ${m.help}`));
  }, [all, search]);
  return (
    <Dialog title={chosen ? chosen.name : 'Metrics'} wide onClose={onClose}>
      {chosen ? (
        <MetricView metric={chosen} onBack={() => setChosen(undefined)} onPick={onPick} />
      ) : (
        <>
          <div class="filters">
            <SearchField label="Search names and descriptions" value={search} onChange={setSearch} autofocus />
            <span class="muted small">
              {names.data && `${count(shown.length)} of ${count(all.length)} metrics`}
            </span>
          </div>
          {names.error && <ErrorNotice error={names.error} />}
          {!names.data && !names.error && <Spinner label="Loading metrics" />}
          <VirtualList
            items={shown}
            keyOf={(m) => m.name}
            estimate={54}
            height={460}
            label="Metrics"
            render={(m) => (
              <button type="button" class="metric-row" onClick={() => setChosen(m)}>
                <span class="metric-title">
                  <span class="mono metric-name">{m.name}</span>
                  {m.type && m.type !== 'unknown' && <span class={`badge type-${m.type}`}>{m.type}</span>}
                </span>
                {m.help && <span class="muted small">{m.help}</span>}
              </button>
            )}
          />
        </>
      )}
    </Dialog>
  );
}

function MetricView(props: { metric: Metric; onBack: () => void; onPick: (expr: string) => void }) {
  const { metric, onBack, onPick } = props;
  const [matchers, setMatchers] = useState<Labels>({});
  const [series, setSeries] = useState<Labels[]>();
  const [error, setError] = useState<string>();
  const text = selector(metric.name, matchers);
  useEffect(() => {
    const control = new AbortController();
    setSeries(undefined);
    setError(undefined);
    ask<{ result: VectorItem[] }>('query', { query: text, limit: CARDINALITY }, control.signal).then(
      ({ data }) => setSeries(data.result.map((item) => item.metric)),
      (why: Error) => !control.signal.aborted && setError(why.message),
    );
    return () => control.abort();
  }, [text]);
  const labels = useMemo(() => labelCounts(series ?? []), [series]);
  return (
    <div class="metric-view">
      <button type="button" class="quiet" onClick={onBack}>
        ← All metrics
      </button>
      <p>
        {metric.type && <span class={`badge type-${metric.type}`}>{metric.type}</span>} {metric.help || 'Nobody described it.'}
      </p>
      <div class="metric-use">
        <code>{text}</code>
        <button type="button" class="primary" onClick={() => onPick(text)}>
          Use
        </button>
        {rateOf(metric.type, text) && (
          <button type="button" class="control" onClick={() => onPick(rateOf(metric.type, text) ?? text)}>
            Use its rate
          </button>
        )}
      </div>
      {error && <p class="wrong">{error}</p>}
      {!series && !error && <Spinner label="Loading series" />}
      {series && (
        <p class="muted">
          {series.length >= CARDINALITY ? `More than ${count(CARDINALITY)}` : count(series.length)} series now. Click a value to
          choose it.
        </p>
      )}
      <div class="label-list">
        {labels.map(({ name, values }) => (
          <details key={name} open={values.length <= 12 || name in matchers}>
            <summary>
              <span class="mono label-name">{name}</span> <span class="badge">{count(values.length)}</span>
            </summary>
            <div class="chips">
              {values.slice(0, 100).map(([value, number]) => (
                <button
                  key={value}
                  type="button"
                  class="chip"
                  aria-pressed={matchers[name] === value}
                  title={`${labelText(name)}=${JSON.stringify(value)}: ${number} series`}
                  onClick={() => {
                    const { [name]: was, ...rest } = matchers;
                    setMatchers(was === value ? rest : { ...rest, [name]: value });
                  }}
                >
                  {value || '""'} <span class="muted">{count(number)}</span>
                </button>
              ))}
              {values.length > 100 && <span class="muted">… {count(values.length - 100)} more</span>}
            </div>
          </details>
        ))}
      </div>
    </div>
  );
}
