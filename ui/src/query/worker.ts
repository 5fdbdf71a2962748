// Fetches and reads answers beside the page.
import { decode } from './decode';
import type { FromWorker, ToWorker } from './asking';

const running = new Map<number, AbortController>();

addEventListener('message', (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  if (message.kind === 'cancel') running.get(message.id)?.abort();
  else void answer(message);
});

async function answer({ id, url, form, headers, grid }: ToWorker & { kind: 'ask' }) {
  const control = new AbortController();
  running.set(id, control);
  const send = (message: FromWorker, transfer: Transferable[] = []) => postMessage(message, { transfer });
  const begun = performance.now();
  try {
    const response = await fetch(url, {
      method: form === undefined ? 'GET' : 'POST',
      headers: form === undefined ? headers : { ...headers, 'content-type': 'application/x-www-form-urlencoded' },
      body: form,
      signal: control.signal,
    });
    const text = await response.text();
    const took = performance.now() - begun;
    const decoded = decode(text, response.status, grid);
    if (control.signal.aborted) return;
    if ('message' in decoded) {
      send({ id, failure: decoded });
    } else {
      const columns = decoded.result.kind === 'grid' ? decoded.result.series.map((s) => s.values.buffer) : [];
      send({ id, decoded, took, raw: new Blob([text], { type: 'application/json' }) }, columns);
    }
  } catch (error) {
    if (control.signal.aborted) return;
    // A fetch that fails says nothing about why; the browser's console does.
    const message = error instanceof RangeError ? 'The answer is too large for this browser.' : 'The server cannot be reached.';
    send({ id, failure: { type: 'network', message, status: 0 } });
  } finally {
    running.delete(id);
  }
}
