// Results at one time.
import { useContext, useMemo, useState } from 'preact/hooks';
import type { MatrixItem, QueryData, Sample, VectorItem } from '../api';
import { SharedContext } from '../context';
import { count, dateTime } from '../format';
import { Metric } from '../parts';

/** Rows drawn before the rest is asked for. */
const FIRST = 300;

export function Table({ data }: { data: QueryData }) {
  const { utc } = useContext(SharedContext);
  const [order, setOrder] = useState<'' | 'up' | 'down'>('');
  const [all, setAll] = useState(false);
  const sorted = useMemo(() => {
    if (data.resultType !== 'vector' || order === '') return data.result;
    const sign = order === 'up' ? 1 : -1;
    const number = (item: VectorItem) => Number(item.value[1].replace('Inf', 'Infinity'));
    return [...(data.result as VectorItem[])].sort((a, b) => {
      const [x, y] = [number(a), number(b)];
      // What is no number stands at the end either way.
      if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
      return sign * (x - y);
    });
  }, [data, order]);

  if (data.resultType === 'scalar' || data.resultType === 'string') {
    const [ts, value] = data.result as Sample;
    return (
      <p class="single">
        <span class="kind">{data.resultType}</span> <output>{value}</output> <span class="muted">at {dateTime(ts * 1000, utc)}</span>
      </p>
    );
  }
  const rows = (all ? sorted : sorted.slice(0, FIRST)) as VectorItem[] | MatrixItem[];
  const next = { '': 'down', down: 'up', up: '' } as const;
  return (
    <div class="table-wrap">
      <table class="results">
        <thead>
          <tr>
            <th scope="col">Series</th>
            <th scope="col" aria-sort={order === 'up' ? 'ascending' : order === 'down' ? 'descending' : 'none'}>
              {data.resultType === 'vector' ? (
                <button type="button" onClick={() => setOrder(next[order])} title="Sort by value">
                  Value <span aria-hidden="true">{{ '': '↕', down: '↓', up: '↑' }[order]}</span>
                </button>
              ) : (
                'Samples'
              )}
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row, i) => (
            <tr key={i}>
              <td>
                <Metric labels={row.metric} />
              </td>
              <td class="value">
                {'value' in row ? row.value[1] : <Samples values={row.values} utc={utc} />}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {sorted.length > rows.length && (
        <button type="button" class="quiet more" onClick={() => setAll(true)}>
          Show all {count(sorted.length)} rows
        </button>
      )}
    </div>
  );
}

function Samples(props: { values: Sample[]; utc: boolean }) {
  return (
    <>
      {props.values.slice(0, 500).map(([ts, value]) => (
        <div key={ts}>
          {value} <span class="muted">@ {dateTime(ts * 1000, props.utc)}</span>
        </div>
      ))}
      {props.values.length > 500 && <div class="muted">… {count(props.values.length - 500)} more</div>}
    </>
  );
}
