// The real binary in its roles, with data.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { startExporter, weather } from './exporter';

export const BINARY = resolve(process.env.EPIMETHEUS_BINARY ?? '../target/debug/epimetheus');

export interface World {
  /** Base URLs. */
  allInOne: string;
  querier: string;
  /** `tools bucket web` over the bucket of all-in-one. */
  viewer: string;
  /** All-in-one under a prefix, without any data. */
  prefixed: string;
  /** The configuration of all-in-one. */
  config: string;
  /** The end of the imported weather, seconds. */
  until: number;
  /** The last sample of a block with native histograms, seconds, where the conformance data is there. */
  histograms?: number;
}

/** Starts everything; the second answer ends it. */
export async function startWorld(): Promise<[World, () => Promise<void>]> {
  const dir = mkdtempSync(join(tmpdir(), 'epimetheus-ui-'));
  const exporter = await startExporter();
  const children: ChildProcess[] = [];
  const stop = async () => {
    await Promise.all(children.map(end));
    await exporter.stop();
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const until = Math.floor(Date.now() / 1000 / 60) * 60 - 6 * 3600;
    const [data, file] = [join(dir, 'data'), join(dir, 'weather.om')];
    mkdirSync(join(data, 'tsdb'), { recursive: true });
    writeFileSync(file, weather(until));
    execFileSync(BINARY, ['tools', 'tsdb', 'create-blocks-from', 'openmetrics', '--quiet', file, join(data, 'tsdb')]);
    const histograms = nativeHistograms(join(data, 'tsdb'));
    const [http, grpc, query, queryGrpc, closed, prefix, viewer] = (await freePorts(7)) as [number, number, number, number, number, number, number];
    const config = join(dir, 'prometheus.yml');
    writeFileSync(config, configuration(exporter.address, http, closed));
    writeFileSync(join(dir, 'rules.yml'), RULES);
    const run = (args: string[]) => {
      const child = spawn(BINARY, args, { stdio: ['ignore', 'ignore', 'pipe'], cwd: dir });
      let said = '';
      child.stderr.on('data', (piece: Buffer) => (said = (said + piece.toString()).slice(-4000)));
      child.on('exit', (code) => code && console.error(`epimetheus ${args[0]} ended with ${code}:\n${said}`));
      children.push(child);
    };
    run([
      'all-in-one', '--no-compact', `--data-dir=${data}`, `--config.file=${config}`, `--web.listen-address=127.0.0.1:${http}`,
      `--grpc-address=127.0.0.1:${grpc}`, '--enable-feature=exemplar-storage', '--shipper.sync-interval=1s',
      '--web.enable-lifecycle', '--shipper.upload-compacted', '--storage.tsdb.retention.time=60d',
    ]);
    run([
      'query', `--http-address=127.0.0.1:${query}`, `--grpc-address=127.0.0.1:${queryGrpc}`,
      `--endpoint=127.0.0.1:${grpc}`, `--endpoint=127.0.0.1:${closed}`, '--query.replica-label=replica',
    ]);
    mkdirSync(join(data, 'bucket'), { recursive: true });
    run([
      'tools', 'bucket', 'web', `--http-address=127.0.0.1:${viewer}`, '--refresh=2s',
      `--objstore.config=type: FILESYSTEM\nconfig: {directory: '${join(data, 'bucket')}'}`,
    ]);
    run(['all-in-one', `--data-dir=${join(dir, 'other')}`, `--web.listen-address=127.0.0.1:${prefix}`, '--web.external-url=http://127.0.0.1/metrics/here']);
    const world = {
      allInOne: `http://127.0.0.1:${http}`,
      querier: `http://127.0.0.1:${query}`,
      viewer: `http://127.0.0.1:${viewer}`,
      prefixed: `http://127.0.0.1:${prefix}/metrics/here`,
      config,
      until,
      histograms,
    };
    await Promise.all([world.allInOne, world.querier, world.viewer, world.prefixed].map((base) => until200(`${base}/-/ready`)));
    await untilTrue('the first samples', async () => (await vector(world.allInOne, 'count(device_temperature)')) > 0);
    await untilTrue('a firing alert', async () => (await vector(world.allInOne, 'count(ALERTS{alertstate="firing"})')) > 0);
    return [world, stop];
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Takes a block that Prometheus wrote over; the answer is when its last sample is, seconds. */
function nativeHistograms(to: string): number | undefined {
  const from = join(process.env.EPIMETHEUS_DATA ?? '../../shared/data', 'tsdb/generated_by_2.42/block_native_histograms');
  const ulid = existsSync(from) ? readdirSync(from)[0] : undefined;
  if (!ulid) return undefined;
  cpSync(join(from, ulid), join(to, ulid), { recursive: true });
  const meta = JSON.parse(readFileSync(join(from, ulid, 'meta.json'), 'utf8')) as { maxTime: number };
  return Math.floor(meta.maxTime / 1000) - 1;
}

function configuration(exporter: string, self: number, closed: number): string {
  return `
global:
  scrape_interval: 2s
  scrape_timeout: 2s
  evaluation_interval: 3s
  external_labels: {cluster: test, replica: a}
rule_files: [rules.yml]
alerting:
  alertmanagers:
  - static_configs: [{targets: ['127.0.0.1:${closed}']}]
scrape_configs:
- job_name: epimetheus
  static_configs: [{targets: ['127.0.0.1:${self}']}]
- job_name: shop
  static_configs: [{targets: ['${exporter}'], labels: {team: checkout}}]
- job_name: devices
  scrape_interval: 4s
  metrics_path: /devices
  static_configs: [{targets: ['${exporter}']}]
- job_name: broken
  metrics_path: /broken
  static_configs: [{targets: ['${exporter}']}]
- job_name: closed
  static_configs: [{targets: ['127.0.0.1:${closed}', 'unwanted:1']}]
  relabel_configs: [{source_labels: [__address__], regex: 'unwanted.*', action: drop}]
`;
}

const RULES = `
groups:
- name: shop
  rules:
  - record: city:shop_orders:rate1m
    expr: sum by (city) (rate(shop_orders_total[1m]))
  - alert: TargetDown
    expr: up == 0
    labels: {severity: page}
    annotations: {summary: 'Target {{ $labels.instance }} of {{ $labels.job }} is down', runbook_url: 'https://example.com/runbooks/down'}
  - alert: HotDevice
    expr: device_temperature > 81
    for: 10m
    labels: {severity: ticket}
    annotations: {summary: 'Device {{ $labels.device }} is hot'}
  - alert: NoOrders
    expr: sum(shop_orders_total) == 0
    labels: {severity: page}
- name: odd
  rules:
  - record: odd:ratio
    expr: shop_queue_length / 2
  - record: odd:clash
    expr: up * on (team) group_left device_temperature
`;

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const gone = new Promise<void>((done) => child.once('exit', () => done()));
  child.kill('SIGTERM');
  const kill = setTimeout(() => child.kill('SIGKILL'), 8000);
  await gone;
  clearTimeout(kill);
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, () => {
      const server = createServer();
      return new Promise<typeof server>((listening) => server.listen(0, '127.0.0.1', () => listening(server)));
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))));
  return ports;
}

async function untilTrue(what: string, is: () => Promise<boolean>, seconds = 60): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  while (!(await is().catch(() => false))) {
    if (Date.now() > deadline) throw new Error(`no sign of ${what} within ${seconds} s`);
    await new Promise((later) => setTimeout(later, 200));
  }
}

const until200 = (url: string) => untilTrue(url, async () => (await fetch(url)).ok);

async function vector(base: string, query: string): Promise<number> {
  const answer = await fetch(`${base}/api/v1/query?query=${encodeURIComponent(query)}`);
  const { data } = (await answer.json()) as { data: { result: { value: [number, string] }[] } };
  return Number(data.result[0]?.value[1] ?? 0);
}

/** Why these tests cannot run here; undefined if they can. */
export function missing(): string | undefined {
  if (!existsSync(BINARY)) return `${BINARY} is not built`;
  if (!existsSync(CHROMIUM)) return `${CHROMIUM} is not installed`;
  return undefined;
}

export const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
