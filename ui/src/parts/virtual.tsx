// Long lists: only the rows near the screen are there. Rows are measured as they appear, so that
// they may be of any height.
import type { ComponentChildren, VNode } from 'preact';
import { useCallback, useEffect, useLayoutEffect, useMemo, useReducer, useRef } from 'preact/hooks';
import { rowAt, topsOf } from './rows';

/** Pixels beyond the screen for which there are rows already. */
const BEYOND = 600;

export function VirtualList<T>(props: {
  items: readonly T[];
  /** Which row is the same as before. */
  keyOf: (item: T, i: number) => string | number;
  render: (item: T, i: number) => ComponentChildren;
  /** Height of a row that was not seen yet. */
  estimate: number | ((item: T) => number);
  label: string;
  class?: string;
  /** Scrolls by itself in this many pixels; otherwise with the page. */
  height?: number;
}) {
  const { items, keyOf } = props;
  const root = useRef<HTMLDivElement>(null);
  const [version, redraw] = useReducer((n: number) => n + 1, 0);
  const heights = useRef(new Map<string, number>());
  const view = useRef({ top: 0, bottom: 1200 });

  const tops = useMemo(() => {
    const guess = props.estimate;
    return topsOf(items.length, (i) => {
      const item = items[i] as T;
      return heights.current.get(String(keyOf(item, i))) ?? (typeof guess === 'number' ? guess : guess(item));
    });
  }, [items, version]);

  const look = useCallback(() => {
    const element = root.current;
    if (!element) return;
    const own = props.height !== undefined;
    const top = own ? element.scrollTop : -element.getBoundingClientRect().top;
    const seen = own ? element.clientHeight : innerHeight;
    const old = view.current;
    // A step of scrolling does not draw; leaving what is prepared does.
    if (Math.abs(top - old.top) > BEYOND / 3 || Math.abs(top + seen - old.bottom) > BEYOND / 3) {
      view.current = { top, bottom: top + seen };
      redraw(0);
    }
  }, [props.height]);

  useEffect(() => {
    const scroller = props.height !== undefined ? root.current : window;
    scroller?.addEventListener('scroll', look, { passive: true });
    addEventListener('resize', look);
    return () => {
      scroller?.removeEventListener('scroll', look);
      removeEventListener('resize', look);
    };
  }, [look]);
  useLayoutEffect(look);

  const observer = useMemo(
    () =>
      new ResizeObserver((entries) => {
        let changed = false;
        for (const entry of entries) {
          const row = entry.target as HTMLElement;
          const key = row.dataset.key;
          const height = entry.borderBoxSize[0]?.blockSize ?? 0;
          if (key === undefined || height === 0) continue;
          if (Math.abs((heights.current.get(key) ?? -1) - height) > 0.5) {
            heights.current.set(key, height);
            changed = true;
          }
        }
        if (changed) redraw(0);
      }),
    [],
  );
  useEffect(() => () => observer.disconnect(), []);
  const watch = useCallback((row: HTMLDivElement | null) => {
    if (row) observer.observe(row);
  }, []);

  const drawn = useMemo(() => new Map<string, VNode>(), [items, props.render]);
  const first = rowAt(tops, view.current.top - BEYOND);
  const last = Math.min(items.length - 1, rowAt(tops, view.current.bottom + BEYOND));
  const whole = tops[items.length] ?? 0;
  const shown = items.slice(first, last + 1);
  return (
    <div
      ref={root}
      class={`virtual ${props.class ?? ''}`}
      role="list"
      aria-label={props.label}
      tabIndex={props.height === undefined ? undefined : 0}
      style={props.height === undefined ? undefined : { maxHeight: `${props.height}px`, overflowY: 'auto' }}
    >
      <div role="presentation" style={{ height: `${tops[first] ?? 0}px` }} />
      {shown.map((item, at) => {
        const i = first + at;
        const key = String(keyOf(item, i));
        // The same node again costs nothing, so that scrolling only draws the rows that come.
        let row = drawn.get(key);
        if (!row) {
          row = (
            <div key={key} data-key={key} ref={watch} role="listitem" aria-setsize={items.length} aria-posinset={i + 1}>
              {props.render(item, i)}
            </div>
          );
          drawn.set(key, row);
        }
        return row;
      })}
      <div role="presentation" style={{ height: `${Math.max(0, whole - (tops[last + 1] ?? whole))}px` }} />
    </div>
  );
}
