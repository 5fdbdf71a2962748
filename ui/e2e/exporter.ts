// An exporter with what a page has to cope with: many series, waves, exemplars, a target that fails.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** How many series `device_temperature` has. */
export const DEVICES = 5000;

export interface Exporter {
  address: string;
  stop: () => Promise<void>;
}

export async function startExporter(): Promise<Exporter> {
  let scrapes = 0;
  const server: Server = createServer((request, response) => {
    if (request.url === '/broken') {
      response.statusCode = 503;
      return response.end('the sensor is on fire');
    }
    scrapes++;
    response.setHeader('content-type', 'application/openmetrics-text; version=1.0.0; charset=utf-8');
    response.end(request.url === '/devices' ? devices(scrapes) : service(scrapes));
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  return {
    address: `127.0.0.1:${port}`,
    stop: () => new Promise((stopped) => {
      server.closeAllConnections();
      server.close(() => stopped());
    }),
  };
}

function devices(round: number): string {
  const lines = ['# HELP device_temperature Temperature of a device, in degrees Celsius.', '# TYPE device_temperature gauge'];
  for (let i = 0; i < DEVICES; i++) {
    const value = (20 + (i % 60) + 5 * Math.sin(round / 9 + i)).toFixed(2);
    lines.push(`device_temperature{device="d${String(i).padStart(4, '0')}",site="s${i % 17}"} ${value}`);
  }
  return lines.join('\n') + '\n# EOF\n';
}

function service(round: number): string {
  const now = Date.now() / 1000;
  const trace = (i: number) => ` # {trace_id="${(round * 7919 + i).toString(16).padStart(16, '0')}"} ${(0.05 * i + 0.02).toFixed(2)} ${now.toFixed(3)}`;
  return [
    '# HELP shop_orders Orders that were taken.',
    '# TYPE shop_orders counter',
    ...['lisbon', 'oslo', 'quito'].map((city, i) => `shop_orders_total{city="${city}"} ${round * (i + 2)}`),
    '# HELP shop_queue_length Orders that wait.',
    '# TYPE shop_queue_length gauge',
    `shop_queue_length ${(8 + 6 * Math.sin(round / 5)).toFixed(1)}`,
    '# HELP shop_latency_seconds How long an order takes.',
    '# TYPE shop_latency_seconds histogram',
    ...['0.1', '0.5', '1', '+Inf'].map((le, i) => `shop_latency_seconds_bucket{le="${le}"} ${round * (i + 1)}${i < 3 ? trace(i) : ''}`),
    `shop_latency_seconds_sum ${round * 1.3}`,
    `shop_latency_seconds_count ${round * 4}`,
    '# EOF',
    '',
  ].join('\n');
}

/** A day and a quarter of a weather station, every minute, as a file to import. */
export function weather(until: number): string {
  const lines = ['# HELP weather_temperature Outside.', '# TYPE weather_temperature gauge'];
  const first = until - 30 * 3600;
  for (const [at, station] of ['harbour', 'hill', 'forest'].entries()) {
    for (let ts = first; ts <= until; ts += 60) {
      const value = 12 + 3 * at + 6 * Math.sin((ts / 86400) * 2 * Math.PI) + Math.sin(ts / 900 + at);
      lines.push(`weather_temperature{station="${station}"} ${value.toFixed(2)} ${ts}`);
    }
  }
  return lines.join('\n') + '\n# EOF\n';
}
