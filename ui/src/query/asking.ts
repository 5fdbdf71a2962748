// Queries, asked through the worker.
import { ApiError, type Params, request } from '../api/ask';
import type { Decoded, Failure, Grid } from './decode';

export type ToWorker =
  | { kind: 'ask'; id: number; url: string; form?: string; headers: Record<string, string>; grid?: Grid }
  | { kind: 'cancel'; id: number };
export type FromWorker =
  | { id: number; failure: Failure }
  | { id: number; decoded: Decoded; took: number; raw: Blob };

export interface QueryAnswer extends Decoded {
  /** Until the answer was here, ms. */
  took: number;
  /** The answer as it came. */
  raw: Blob;
}

let worker: Worker | undefined;
let ids = 0;
const waiting = new Map<number, (message: FromWorker) => void>();

function theWorker(): Worker {
  if (!worker) {
    worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    worker.addEventListener('message', (event: MessageEvent<FromWorker>) => {
      const { id } = event.data;
      waiting.get(id)?.(event.data);
      waiting.delete(id);
    });
    worker.addEventListener('error', () => {
      // It did not load or it ran out of memory: what waits hears of it, the next question starts another.
      const failure = { type: 'network', message: 'Reading the answer failed; it may be too large.', status: 0 };
      for (const [id, hear] of waiting) hear({ id, failure });
      waiting.clear();
      worker?.terminate();
      worker = undefined;
    });
  }
  return worker;
}

/** Asks `query` or `query_range`; series of a range query are laid on `grid`. */
export function askQuery(
  path: string,
  params: Params,
  grid: Grid | undefined,
  signal: AbortSignal,
  headers: Record<string, string> = {},
): Promise<QueryAnswer> {
  const [url, init] = request(path, params);
  const id = ++ids;
  return new Promise((resolve, reject) => {
    waiting.set(id, (message) => {
      if ('failure' in message) {
        const { type, message: text, status } = message.failure;
        reject(new ApiError(type, text, status));
      } else {
        resolve({ ...message.decoded, took: message.took, raw: message.raw });
      }
    });
    signal.addEventListener('abort', () => {
      waiting.delete(id);
      theWorker().postMessage({ kind: 'cancel', id } satisfies ToWorker);
      reject(new DOMException('given up', 'AbortError'));
    });
    const whole = new URL(url, document.baseURI).href;
    const form = init.body ? String(init.body) : undefined;
    theWorker().postMessage({ kind: 'ask', id, url: whole, form, headers, grid } satisfies ToWorker);
  });
}
