// Asking the HTTP API.
import { base } from '../location';

/** What every answer is wrapped in. */
export interface Envelope<T> {
  status: string;
  data: T;
  errorType?: string;
  error?: string;
  warnings?: string[];
  infos?: string[];
}

export interface Answer<T> {
  data: T;
  warnings: string[];
  infos: string[];
}

/** An error that the server told, or that kept us from hearing it. */
export class ApiError extends Error {
  constructor(
    readonly type: string,
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export type Params = Record<string, string | number | string[] | undefined>;

/** The parameters as they are sent; a list becomes one parameter for each item. */
export function encoded(params: Params): URLSearchParams {
  const form = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) form.append(name, String(one));
  }
  return form;
}

/** What `fetch` takes to ask `api/v1/PATH`. Long questions go as a form, since URLs have a length. */
export function request(path: string, params: Params, signal?: AbortSignal): [string, RequestInit] {
  const form = encoded(params);
  const text = form.toString();
  const url = `${base}/api/v1/${path}`;
  if (text.length > 1500) return [url, { method: 'POST', body: form, signal }];
  return [text ? `${url}?${text}` : url, { signal }];
}

/** Asks `api/v1/PATH`. */
export async function ask<T>(
  path: string,
  params: Params = {},
  signal?: AbortSignal,
  headers?: Record<string, string>,
): Promise<Answer<T>> {
  let response: Response;
  try {
    const [url, init] = request(path, params, signal);
    response = await fetch(url, { ...init, headers });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('network', 'The server cannot be reached.', 0);
  }
  let body: Envelope<T>;
  try {
    body = (await response.json()) as Envelope<T>;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('network', `The server answered ${response.status} ${response.statusText}.`, response.status);
  }
  if (body.status !== 'success') {
    throw new ApiError(body.errorType ?? 'unknown', body.error ?? 'unknown error', response.status);
  }
  return { data: body.data, warnings: body.warnings ?? [], infos: body.infos ?? [] };
}

/** Tells `api/v1/PATH` to do something. */
export async function post(path: string, params: Params): Promise<void> {
  let response: Response;
  try {
    response = await fetch(`${base}/api/v1/${path}`, { method: 'POST', body: encoded(params) });
  } catch {
    throw new ApiError('network', 'The server cannot be reached.', 0);
  }
  if (response.ok) return;
  const body = (await response.json().catch(() => ({}))) as Partial<Envelope<unknown>>;
  throw new ApiError(body.errorType ?? 'unknown', body.error ?? `The server answered ${response.status}.`, response.status);
}
