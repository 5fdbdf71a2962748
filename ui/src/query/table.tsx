// Results at one time.
import { useContext, useMemo, useState } from 'preact/hooks';
import type { MatrixItem, Sample, VectorItem } from '../api/shapes';
import { SharedContext } from '../context';
import { count, dateTime } from '../format';
import { Metric, metricText } from '../parts/labels';
import { SearchField, wordsOf } from '../parts/search';
import { VirtualList } from '../parts/virtual';
import { number, type Result } from './decode';
import { HistogramBars } from './histogram';
import { order } from './legend';

type Sort = '' | 'down' | 'up';
const NEXT: Record<Sort, Sort> = { '': 'down', down: 'up', up: '' };

export function Table({ result }: { result: Exclude<Result, { kind: 'grid' }> }) {
  const { utc } = useContext(SharedContext);
  switch (result.kind) {
    case 'vector':
    case 'matrix':
      return <Series key={result.kind} items={result.items} kind={result.kind} utc={utc} />;
    default: {
      const [ts, value] = result.sample;
      return (
        <p class="single">
          <span class="kind">{result.kind}</span> <output>{value}</output>{' '}
          <span class="muted">at {dateTime(ts * 1000, utc)}</span>
        </p>
      );
    }
  }
}

function Series(props: { items: (VectorItem | MatrixItem)[]; kind: 'vector' | 'matrix'; utc: boolean }) {
  const { items, kind } = props;
  const [sort, setSort] = useState<Sort>('');
  const [search, setSearch] = useState('');
  const shown = useMemo(() => {
    const matches = wordsOf(search);
    const found = search.trim() === '' ? items : items.filter((item) => matches(metricText(item.metric)));
    if (kind !== 'vector' || sort === '') return found;
    const of = (item: VectorItem) => number(item.value?.[1] ?? 'NaN');
    const sorted = [...(found as VectorItem[])].sort((a, b) => order(of(a), of(b)));
    if (sort === 'down') return sorted;
    // What is no number stands at the end either way.
    const numbers = sorted.filter((item) => !Number.isNaN(of(item))).reverse();
    return [...numbers, ...sorted.slice(numbers.length)];
  }, [items, sort, search]);
  return (
    <div class="results">
      {items.length > 20 && (
        <div class="results-head">
          <SearchField label="Filter series" value={search} onChange={setSearch} />
          <span class="muted small">
            {count(shown.length)} of {count(items.length)}
          </span>
        </div>
      )}
      <div class="row head">
        <span>Series</span>
        {kind === 'vector' ? (
          <button type="button" onClick={() => setSort(NEXT[sort])} title="Sort by value">
            Value <span aria-hidden="true">{{ '': '↕', down: '↓', up: '↑' }[sort]}</span>
          </button>
        ) : (
          <span>Samples</span>
        )}
      </div>
      <VirtualList
        items={shown}
        keyOf={(item) => metricText(item.metric)}
        estimate={34}
        label="Results"
        render={(item) => (
          <div class="row">
            <Metric labels={item.metric} />
            <div class="value">
              <Value item={item} utc={props.utc} />
            </div>
          </div>
        )}
      />
    </div>
  );
}

function Value({ item, utc }: { item: VectorItem | MatrixItem; utc: boolean }) {
  if ('value' in item && item.value) return <>{item.value[1]}</>;
  if ('histogram' in item && item.histogram) return <HistogramBars histogram={item.histogram[1]} />;
  const { values = [], histograms = [] } = item as MatrixItem;
  return (
    <>
      <Samples values={values} utc={utc} />
      {histograms.slice(0, MOST_HISTOGRAMS).map(([ts, histogram]) => (
        <div key={ts}>
          <HistogramBars histogram={histogram} />
          <span class="muted">@ {dateTime(ts * 1000, utc)}</span>
        </div>
      ))}
      {histograms.length > MOST_HISTOGRAMS && <div class="muted">… {count(histograms.length - MOST_HISTOGRAMS)} more</div>}
    </>
  );
}

const MOST_SAMPLES = 500;
const MOST_HISTOGRAMS = 20;

function Samples(props: { values: Sample[]; utc: boolean }) {
  return (
    <>
      {props.values.slice(0, MOST_SAMPLES).map(([ts, value]) => (
        <div key={ts}>
          {value} <span class="muted">@ {dateTime(ts * 1000, props.utc)}</span>
        </div>
      ))}
      {props.values.length > MOST_SAMPLES && <div class="muted">… {count(props.values.length - MOST_SAMPLES)} more</div>}
    </>
  );
}
