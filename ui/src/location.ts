// Where we are: path and search below the base, with the browser's history.
import { useEffect, useState } from 'preact/hooks';

/** The path before our own paths, without a slash at its end. */
export const base = new URL(document.baseURI).pathname.replace(/\/$/, '');

const watchers = new Set<() => void>();
addEventListener('popstate', () => watchers.forEach((w) => w()));

/** The present path below the base, such as `/query`. */
export function path(): string {
  const whole = location.pathname;
  return (whole.startsWith(base) ? whole.slice(base.length) : whole) || '/';
}

/** Goes to a path (with search) below the base. */
export function go(to: string, replace = false): void {
  const url = base + to;
  if (url === location.pathname + location.search) return;
  if (replace) history.replaceState(null, '', url);
  else history.pushState(null, '', url);
  watchers.forEach((w) => w());
}

/** Renders again whenever the location changes; the answer is `path?search`. */
export function useLocation(): string {
  const read = () => path() + location.search;
  const [at, set] = useState(read);
  useEffect(() => {
    const watch = () => set(read());
    watchers.add(watch);
    watch();
    return () => void watchers.delete(watch);
  }, []);
  return at;
}

/** One parameter of the URL as state; the default is not written. */
export function useParam(name: string, fallback: string): [string, (value: string) => void] {
  useLocation();
  const value = new URLSearchParams(location.search).get(name) ?? fallback;
  const set = (next: string) => {
    const search = new URLSearchParams(location.search);
    if (next === fallback) search.delete(name);
    else search.set(name, next);
    const text = search.toString();
    go(path() + (text ? '?' + text : ''), true);
  };
  return [value, set];
}
