// The series of a graph: to be found, sorted, switched on and off.
import { useContext, useEffect, useMemo, useState } from 'preact/hooks';
import { SharedContext } from '../context';
import { axis, count } from '../format';
import { Metric, metricText } from '../parts/labels';
import { SearchField, wordsOf } from '../parts/search';
import { VirtualList } from '../parts/virtual';
import { colour } from './colours';
import type { GridSeries } from './decode';

type Sort = 'none' | 'last' | 'min' | 'max' | 'mean';
const COLUMNS = ['min', 'max', 'mean', 'last'] as const;

/** Which are on: those of the set, or all but those. */
interface Chosen {
  except: boolean;
  set: ReadonlySet<string>;
}
const ALL: Chosen = { except: true, set: new Set() };

export function Legend(props: {
  series: GridSeries[];
  /** How many of those shown are drawn. */
  drawn: number;
  onShown: (shown: GridSeries[]) => void;
  onFocus: (index: number | null) => void;
}) {
  const { series, onShown, onFocus } = props;
  const { dark } = useContext(SharedContext);
  const [search, setSearch] = useState('');
  const [sort, setSort] = useState<Sort>('none');
  const [chosen, setChosen] = useState(ALL);

  const found = useMemo(() => {
    const matches = wordsOf(search);
    const some = search.trim() === '' ? series : series.filter((one) => matches(metricText(one.metric)));
    return sort === 'none' ? some : [...some].sort((a, b) => order(a[sort], b[sort]));
  }, [series, search, sort]);
  const isOn = (one: GridSeries) => chosen.set.size === 0 || chosen.set.has(metricText(one.metric)) !== chosen.except;
  useEffect(() => onShown(chosen.set.size === 0 ? found : found.filter(isOn)), [found, chosen]);

  const click = (one: GridSeries, event: MouseEvent) => {
    const key = metricText(one.metric);
    if (event.ctrlKey || event.metaKey || event.shiftKey) {
      const set = new Set(chosen.set);
      if (!set.delete(key)) set.add(key);
      setChosen(set.size === 0 ? ALL : { ...chosen, set });
      return;
    }
    // A plain click shows this one alone, and all again when it already is alone.
    const alone = !chosen.except && chosen.set.size === 1 && chosen.set.has(key);
    setChosen(alone ? ALL : { except: false, set: new Set([key]) });
  };

  const many = series.length > 8;
  return (
    <div class="legend">
      <div class="legend-head">
        {many ? (
          <SearchField label="Filter series" value={search} onChange={setSearch} />
        ) : (
          <span class="muted">{count(series.length)} series</span>
        )}
        {many && (
          <span class="muted small">
            {count(found.length)} of {count(series.length)}
          </span>
        )}
        {chosen.set.size > 0 && (
          <button type="button" class="quiet" onClick={() => setChosen(ALL)}>
            Show all
          </button>
        )}
        <span class="legend-numbers">
          {COLUMNS.map((name) => (
            <button
              key={name}
              type="button"
              aria-pressed={sort === name}
              title={`Sort by ${name}`}
              onClick={() => setSort(sort === name ? 'none' : name)}
            >
              {name}
              {sort === name && ' ↓'}
            </button>
          ))}
        </span>
      </div>
      <VirtualList
        items={found}
        keyOf={(one) => one.index}
        estimate={26}
        height={290}
        label="Series of the graph"
        render={(one) => (
          <button
            type="button"
            class="legend-row"
            aria-pressed={isOn(one)}
            onClick={(e) => click(one, e)}
            onMouseEnter={() => onFocus(one.index)}
            onMouseLeave={() => onFocus(null)}
            onFocus={() => onFocus(one.index)}
            onBlur={() => onFocus(null)}
          >
            <i style={{ background: colour(one.index, dark) }} aria-hidden="true" />
            <Metric labels={one.metric} />
            <span class="legend-numbers">
              {COLUMNS.map((name) => (
                <span key={name}>{short(one[name])}</span>
              ))}
            </span>
          </button>
        )}
      />
    </div>
  );
}

function short(n: number): string {
  return Number.isFinite(n) ? axis(n) : Number.isNaN(n) ? '–' : n > 0 ? '+Inf' : '-Inf';
}

/** The greatest first, what is no number last. */
export function order(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a === b ? 0 : b > a ? 1 : -1;
}
