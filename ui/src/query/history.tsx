// Queries that were asked in this browser, newest first; starred ones stay.
import { useState } from 'preact/hooks';
import { ago, count } from '../format';
import { Icon } from '../parts/icons';
import { Dialog } from '../parts/popover';
import { SearchField, wordsOf } from '../parts/search';
import { VirtualList } from '../parts/virtual';

export interface Asked {
  expr: string;
  /** When it was asked last, ms. */
  at: number;
  /** How often. */
  times: number;
  starred?: boolean;
}

const KEY = 'epimetheus.history';
const MOST = 500;

export function readHistory(): Asked[] {
  try {
    const list: unknown = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(list) ? list.filter((a: Partial<Asked> | null) => typeof a?.expr === 'string') : [];
  } catch {
    return []; // storage is switched off, or someone else wrote there
  }
}

function write(list: Asked[]): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(list));
  } catch {
    // then it is not remembered
  }
}

/** A list with a query asked now at its head. */
export function withAsked(list: Asked[], expr: string, now: number): Asked[] {
  const text = expr.trim();
  if (text === '') return list;
  const old = list.find((a) => a.expr === text);
  const next = [{ ...old, expr: text, at: now, times: (old?.times ?? 0) + 1 }, ...list.filter((a) => a !== old)];
  const kept = next.slice(0, MOST);
  return [...kept, ...next.slice(MOST).filter((a) => a.starred)];
}

export function remember(expr: string): void {
  write(withAsked(readHistory(), expr, Date.now()));
}

export function HistoryDialog({ onPick, onClose }: { onPick: (expr: string) => void; onClose: () => void }) {
  const [list, setList] = useState(readHistory);
  const [search, setSearch] = useState('');
  const matches = wordsOf(search);
  const shown = list.filter((a) => matches(a.expr)).sort((a, b) => Number(b.starred ?? false) - Number(a.starred ?? false) || b.at - a.at);
  const change = (next: Asked[]) => {
    write(next);
    setList(next);
  };
  return (
    <Dialog title="History" wide onClose={onClose}>
      <div class="filters">
        <SearchField label="Search queries" value={search} onChange={setSearch} autofocus />
        <span class="muted small">kept in this browser only</span>
        {list.some((a) => !a.starred) && (
          <button type="button" class="quiet" onClick={() => change(list.filter((a) => a.starred))}>
            Forget all without a star
          </button>
        )}
      </div>
      <VirtualList
        items={shown}
        keyOf={(a) => a.expr}
        estimate={44}
        height={420}
        label="Queries asked before"
        render={(asked) => (
          <div class="history-row">
            <button
              type="button"
              class={asked.starred ? 'icon-button starred' : 'icon-button'}
              aria-pressed={asked.starred ?? false}
              aria-label="Star"
              onClick={() => change(list.map((a) => (a === asked ? { ...a, starred: !a.starred } : a)))}
            >
              <Icon name="star" />
            </button>
            <button type="button" class="history-expr mono" onClick={() => onPick(asked.expr)}>
              {asked.expr}
            </button>
            <span class="muted small nowrap">
              {ago(new Date(asked.at).toISOString())}
              {asked.times > 1 && ` · ${count(asked.times)} times`}
            </span>
          </div>
        )}
      />
      {shown.length === 0 && <p class="muted">{list.length === 0 ? 'Nothing was asked yet.' : 'No query matches.'}</p>}
    </Dialog>
  );
}
