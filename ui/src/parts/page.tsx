// What every page but the query's begins with: its name, whether it renews itself, what went wrong.
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { type Polled, usePolled, useTick } from '../hooks';
import { ErrorNotice, Notice, Spinner } from './basics';
import { ago } from '../format';

const product = document.title;

export interface Live<T> extends Polled<T> {
  live: boolean;
  setLive: (live: boolean) => void;
}

/** Asks every `every` ms, unless people switch that off. */
export function useLive<T>(path: string, every: number): Live<T> {
  const [live, setLive] = useState(true);
  return { ...usePolled<T>(path, live ? every : 0), live, setLive };
}

export function Page(props: {
  title: string;
  note?: ComponentChildren;
  /** What is shown is renewed by this. */
  live?: Live<unknown>;
  /** Said instead of the error if this process does not serve it. */
  absent?: ComponentChildren;
  /** Filters, at the head of the page. */
  filters?: ComponentChildren;
  children?: ComponentChildren;
}) {
  const { live } = props;
  useEffect(() => {
    document.title = `${props.title} · ${product}`;
    return () => {
      document.title = product;
    };
  }, [props.title]);
  const absent = live?.error?.type === 'not_found' && props.absent;
  const loading = live && !live.data && !live.error;
  return (
    <>
      <div class="page-head">
        <h1>{props.title}</h1>
        {props.note && <span class="muted">{props.note}</span>}
        {live && <LiveSwitch live={live} />}
      </div>
      {props.filters && !absent && <div class="filters">{props.filters}</div>}
      {absent
        ? props.absent
        : live?.error &&
          (live.data ? (
            <Notice tone="warn" title="This is old.">
              It came {ago(new Date(live.at).toISOString())}; asking again failed: <span class="mono">{live.error.message}</span>
            </Notice>
          ) : (
            <ErrorNotice error={live.error} />
          ))}
      {live?.warnings?.map((warning) => (
        <Notice key={warning} tone="warn" title="Something is missing.">
          <span class="mono">{warning}</span>
        </Notice>
      ))}
      {loading && <Spinner label={`Loading: ${props.title}`} />}
      {props.children}
    </>
  );
}

function LiveSwitch({ live }: { live: Live<unknown> }) {
  useTick(1000);
  return (
    <span class="live">
      {live.at > 0 && <span class="muted small numbers">{ago(new Date(live.at).toISOString())}</span>}
      {!live.live && (
        <button type="button" class="quiet" data-shortcut="refresh" onClick={live.again}>
          Refresh
        </button>
      )}
      <label class="switch">
        <input type="checkbox" checked={live.live} onChange={(e) => live.setLive(e.currentTarget.checked)} /> Live
      </label>
    </span>
  );
}

/** A choice of states with their counts. */
export function counted(names: readonly string[], count: (name: string) => number): [string, ComponentChildren][] {
  return names.map((name) => [
    name,
    <>
      {name} <span class="number">{count(name)}</span>
    </>,
  ]);
}
