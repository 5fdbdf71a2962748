// Asking again and again, and remembering what people prefer.
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, ask } from './api';

export interface Polled<T> {
  data?: T;
  error?: ApiError;
  /** When the data came, ms. */
  at: number;
  again: () => void;
}

/** Asks `path` now and every `every` ms (0: only once) while the page is visible. */
export function usePolled<T>(path: string, every: number): Polled<T> {
  const [state, set] = useState<{ data?: T; error?: ApiError; at: number }>({ at: 0 });
  const [round, next] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    let timer = 0;
    const run = async () => {
      if (!document.hidden) {
        try {
          const { data } = await ask<T>(path, {}, abort.signal);
          set({ data, at: Date.now() });
        } catch (error) {
          if (abort.signal.aborted) return;
          set((old) => ({ ...old, error: asApiError(error) }));
          // What is only starting is worth asking sooner.
          timer = window.setTimeout(run, Math.min(every || 2000, 2000));
          return;
        }
      }
      if (every > 0) timer = window.setTimeout(run, every);
    };
    void run();
    return () => {
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
    const timer = setInterval(() => set((t) => t + 1), ms);
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

/** The size of an element, kept up to date. */
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
