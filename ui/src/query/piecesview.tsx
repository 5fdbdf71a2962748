// What each part of an expression gives, so that one sees where series get lost.
import { useContext, useEffect, useMemo, useState } from 'preact/hooks';
import { SharedContext } from '../context';
import { count } from '../format';
import { Notice, Spinner } from '../parts/basics';
import { Expr } from '../parts/expr';
import { askQuery } from './asking';
import type { Result } from './decode';
import { type Piece, piecesOf } from './pieces';
import type { Panel } from './panels';
import { questionOf } from './question';
import { labelCounts } from './selectors';
import { tenantHeaders } from './tenant';

/** Parts asked for one expression, and series of each. */
const MOST_PARTS = 60;
const MOST_SERIES = 10_000;

export default function Pieces(props: { panel: Panel; time: number; onPick: (expr: string) => void }) {
  const { panel, time, onPick } = props;
  const whole = useMemo(() => piecesOf(panel.expr), [panel.expr]);
  const rows = useMemo(() => (whole ? flat(whole, 0).slice(0, MOST_PARTS) : []), [whole]);
  if (!whole) return <Notice tone="info">This expression has no parts that could be asked, or it cannot be read.</Notice>;
  return (
    <div class="pieces" role="tree" aria-label="Parts of the expression">
      {rows.map(({ piece, depth }, i) => (
        <Row key={`${i} ${piece.expr}`} panel={panel} piece={piece} depth={depth} time={time} onPick={onPick} />
      ))}
    </div>
  );
}

function flat(piece: Piece, depth: number): { piece: Piece; depth: number }[] {
  return [{ piece, depth }, ...piece.children.flatMap((child) => flat(child, depth + 1))];
}

function Row(props: { panel: Panel; piece: Piece; depth: number; time: number; onPick: (expr: string) => void }) {
  const { panel, piece, depth, time } = props;
  const { gathering } = useContext(SharedContext);
  const [result, setResult] = useState<Result>();
  const [error, setError] = useState('');
  useEffect(() => {
    const control = new AbortController();
    setResult(undefined);
    setError('');
    // As the table would ask it, of the same stores.
    const { path, params } = questionOf({ ...panel, tab: 'table', expr: piece.expr }, 1, time, gathering);
    const run = async () => {
      const headers = await tenantHeaders(gathering ? panel.tenant : '');
      const answer = await askQuery(path, { ...params, limit: MOST_SERIES }, undefined, control.signal, headers);
      setResult(answer.result);
    };
    run().catch((why: Error) => !control.signal.aborted && setError(why.message));
    return () => control.abort();
  }, [piece.expr, time, panel, gathering]);
  return (
    <div class="piece" role="treeitem" aria-level={depth + 1} style={{ marginLeft: `${depth * 1.6}rem` }}>
      <button type="button" class="piece-expr" title={`Ask this part: ${piece.expr}`} onClick={() => props.onPick(piece.expr)}>
        <Expr text={piece.head} />
      </button>
      {error ? <span class="target-error">{error}</span> : result ? <Gives result={result} /> : <Spinner label="Asking this part" />}
    </div>
  );
}

function Gives({ result }: { result: Result }) {
  if (!('items' in result)) return <span class="mono">{'sample' in result ? result.sample[1] : ''}</span>;
  const { items } = result;
  const labels = labelCounts(items.map((item) => item.metric)).sort((a, b) => b.values.length - a.values.length);
  return (
    <span class="piece-gives">
      <span class={items.length === 0 ? 'badge warn' : 'badge good'}>
        {items.length >= MOST_SERIES ? `${count(MOST_SERIES)} or more` : count(items.length)} series
      </span>
      {labels.slice(0, 6).map(({ name, values }) => (
        <span key={name} class="chip" title={values.slice(0, 12).map(([value]) => value).join(', ')}>
          <span class="label-name">{name}</span> {count(values.length)}
        </span>
      ))}
    </span>
  );
}
