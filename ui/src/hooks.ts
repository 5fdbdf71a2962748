// Asking again and again, and remembering what people prefer.
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, ask } from './api/ask';

export interface Polled<T> {
  data?: T;
  /** What the answer lacks. */
  warnings?: string[];
  /** Of the last time, if it failed; `data` may still be there from before. */
  error?: ApiError;
  /** When the data came, ms. */
  at: number;
  again: () => void;
}

/** Asks `path` now and every `every` ms (0: only once) while the page is visible. */
export function usePolled<T>(path: string, every: number): Polled<T> {
  const [state, set] = useState<{ data?: T; warnings?: string[]; error?: ApiError; at: number }>({ at: 0 });
  const [round, next] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    let timer = 0;
    let due = 0;
    const later = (ms: number) => {
      due = Date.now() + ms;
      timer = window.setTimeout(run, ms);
    };
    const run = async () => {
      clearTimeout(timer);
      if (document.hidden && every > 0) return;
      const begun = performance.now();
      try {
        const { data, warnings } = await ask<T>(path, {}, abort.signal);
        set({ data, warnings, at: Date.now() });
        // What takes long to answer and to draw is asked for less often.
        if (every > 0) later(Math.max(every, 10 * (performance.now() - begun)));
      } catch (error) {
        if (abort.signal.aborted) return;
        const why = asApiError(error);
        set((old) => ({ ...old, error: why }));
        // What is only starting is worth asking sooner; what is not served will not be.
        if (why.type !== 'not_found') later(Math.min(every || 2000, 2000));
      }
    };
    const seen = () => !document.hidden && every > 0 && Date.now() >= due && void run();
    document.addEventListener('visibilitychange', seen);
    void run();
    return () => {
      document.removeEventListener('visibilitychange', seen);
      abort.abort();
      clearTimeout(timer);
    };
  }, [path, every, round]);
  const again = useCallback(() => next((n) => n + 1), []);
  return { ...state, again };
}

export function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError('page', String(error), 0);
}

/** A number that grows each `ms`, for texts such as "3 s ago". */
export function useTick(ms: number): number {
  const [tick, set] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && set((t) => t + 1), ms);
    return () => clearInterval(timer);
  }, [ms]);
  return tick;
}

/** A preference kept in this browser. */
export function usePreference(name: string, fallback: string): [string, (value: string) => void] {
  const key = `epimetheus.${name}`;
  const read = () => {
    try {
      return localStorage.getItem(key) ?? fallback;
    } catch {
      return fallback; // storage is switched off
    }
  };
  const [value, set] = useState(read);
  const store = (next: string) => {
    set(next);
    try {
      localStorage.setItem(key, next);
    } catch {
      // then it lasts as long as the page
    }
  };
  return [value, store];
}

/** The width of an element, kept up to date. */
export function useWidth<E extends HTMLElement>(): [preact.RefObject<E | null>, number] {
  const ref = useRef<E>(null);
  const [width, set] = useState(0);
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const observer = new ResizeObserver(() => set(element.clientWidth));
    observer.observe(element);
    set(element.clientWidth);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

/** A set of keys that are open, or otherwise chosen, and a switch for one of them. */
export function useOpen(): [ReadonlySet<string>, (key: string) => void] {
  const [open, set] = useState<ReadonlySet<string>>(new Set());
  const toggle = useCallback((key: string) => {
    set((old) => {
      const next = new Set(old);
      if (!next.delete(key)) next.add(key);
      return next;
    });
  }, []);
  return [open, toggle];
}
