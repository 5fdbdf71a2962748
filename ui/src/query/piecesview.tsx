// What each part of an expression gives, so that one sees where series get lost.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { count } from '../format';
import { Notice, Spinner } from '../parts/basics';
import { Expr } from '../parts/expr';
import { askQuery } from './asking';
import type { Result } from './decode';
import { type Piece, piecesOf } from './pieces';
import { labelCounts } from './selectors';

/** Parts asked for one expression, and series of each. */
const MOST_PARTS = 60;
const MOST_SERIES = 10_000;

export default function Pieces(props: { expr: string; time: number; onPick: (expr: string) => void }) {
  const { expr, time, onPick } = props;
  const whole = useMemo(() => piecesOf(expr), [expr]);
  const rows = useMemo(() => (whole ? flat(whole, 0).slice(0, MOST_PARTS) : []), [whole]);
  if (!whole) return <Notice tone="info">This expression has no parts that could be asked, or it cannot be read.</Notice>;
  return (
    <div class="pieces" role="tree" aria-label="Parts of the expression">
      {rows.map(({ piece, depth }, i) => (
        <Row key={`${i} ${piece.expr}`} piece={piece} depth={depth} time={time} onPick={onPick} />
      ))}
    </div>
  );
}

function flat(piece: Piece, depth: number): { piece: Piece; depth: number }[] {
  return [{ piece, depth }, ...piece.children.flatMap((child) => flat(child, depth + 1))];
}

function Row(props: { piece: Piece; depth: number; time: number; onPick: (expr: string) => void }) {
  const { piece, depth, time } = props;
  const [result, setResult] = useState<Result>();
  const [error, setError] = useState('');
  useEffect(() => {
    const control = new AbortController();
    setResult(undefined);
    setError('');
    askQuery('query', { query: piece.expr, time, limit: MOST_SERIES }, undefined, control.signal).then(
      (answer) => setResult(answer.result),
      (why: Error) => !control.signal.aborted && setError(why.message),
    );
    return () => control.abort();
  }, [piece.expr, time]);
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
