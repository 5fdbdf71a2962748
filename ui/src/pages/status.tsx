// What the server says about itself.
import { useContext, useState } from 'preact/hooks';
import type { Block, BuildInfo, RuntimeInfo, Stat, TsdbData } from '../api';
import { SharedContext } from '../context';
import { ago, bytes, count, dateTime, span } from '../format';
import { usePolled } from '../hooks';
import { useParam } from '../location';
import { Empty, ErrorNotice, Facts, Link, Spinner } from '../parts';
import { BlockTable } from './blocks';

export function StatusPage({ section }: { section: string }) {
  return (
    <>
      <div class="page-head">
        <h1>Status</h1>
        <nav class="tabs" aria-label="Status">
          <Link to="/status" exact>
            Overview
          </Link>
          <Link to="/status/tsdb">Database</Link>
          <Link to="/status/flags">Flags</Link>
          <Link to="/status/config">Configuration</Link>
        </nav>
      </div>
      {section === 'tsdb' ? <Database /> : section === 'flags' ? <Flags /> : section === 'config' ? <Config /> : <Overview />}
    </>
  );
}

function Overview() {
  const { utc } = useContext(SharedContext);
  const runtime = usePolled<RuntimeInfo>('status/runtimeinfo', 5000);
  const build = usePolled<BuildInfo>('status/buildinfo', 0);
  const info = runtime.data;
  const made = build.data;
  const time = (iso: string) => `${dateTime(Date.parse(iso), utc)} (${ago(iso)})`;
  return (
    <div class="columns">
      <section class="card">
        <h2>Runtime</h2>
        {runtime.error && <ErrorNotice error={runtime.error} />}
        {info && (
          <Facts
            facts={[
              ['Role', info.role || '–'],
              ['State', <span class={info.ready === 'ready' ? 'badge good' : 'badge'}>{info.ready}</span>],
              ['Host', info.hostname],
              ['Working directory', <span class="mono">{info.CWD}</span>],
              ['Started', time(info.startTime)],
              ['Running for', span(Date.parse(info.serverTime) - Date.parse(info.startTime))],
              [
                'Configuration',
                info.reloadConfigSuccess ? (
                  `read ${time(info.lastConfigTime)}`
                ) : (
                  <span class="badge bad">the last reload failed; see the log</span>
                ),
              ],
              ['Retention', info.storageRetention || '–'],
              ['Threads', info.GOMAXPROCS],
              ['Memory limit', info.GOMEMLIMIT > 0 ? bytes(info.GOMEMLIMIT) : '–'],
              [
                'Damaged log segments',
                info.corruptionCount === 0 ? 'none' : <span class="badge bad">{count(info.corruptionCount)}</span>,
              ],
            ]}
          />
        )}
      </section>
      <section class="card">
        <h2>Build</h2>
        {build.error && <ErrorNotice error={build.error} />}
        {made && (
          <Facts
            facts={[
              [made.application || 'Program', made.applicationVersion || '–'],
              ['Behaves as Prometheus', made.version || '–'],
              ['Revision', <span class="mono">{made.revision || '–'}</span>],
              ['Branch', made.branch || '–'],
              ['Built', [made.buildDate, made.buildUser].filter(Boolean).join(' by ') || '–'],
              ['Compiler', made.goVersion || '–'],
            ]}
          />
        )}
      </section>
    </div>
  );
}

function Database() {
  const { utc } = useContext(SharedContext);
  const head = usePolled<TsdbData>('status/tsdb', 15_000);
  const blocks = usePolled<{ blocks: Block[] }>('status/tsdb/blocks', 15_000);
  if (head.error && !head.data) return <ErrorNotice error={head.error} />;
  if (!head.data) return <Spinner label="Loading statistics" />;
  const { headStats: stats } = head.data;
  const empty = stats.minTime > stats.maxTime;
  return (
    <>
      <section class="card">
        <h2>Head</h2>
        <p class="muted">The newest samples: in memory and in the write-ahead log, not yet in a block.</p>
        <div class="tiles">
          <Tile name="Series" value={count(stats.numSeries)} />
          <Tile name="Chunks" value={count(stats.chunkCount)} />
          <Tile name="Label pairs" value={count(stats.numLabelPairs)} />
          <Tile
            name="Time"
            value={empty ? 'no samples yet' : span(stats.maxTime - stats.minTime)}
            note={empty ? 'the first come with the first scrape' : `since ${dateTime(stats.minTime, utc, false)}`}
          />
        </div>
      </section>
      <section class="card">
        <h2>Blocks on this disk</h2>
        {blocks.error && <ErrorNotice error={blocks.error} />}
        {blocks.data && blocks.data.blocks.length === 0 && (
          <Empty title="No block yet">
            The head is cut into a block once it spans one and a half block ranges (three hours, by default).
          </Empty>
        )}
        {blocks.data && blocks.data.blocks.length > 0 && <BlockTable blocks={blocks.data.blocks} />}
      </section>
      <div class="columns">
        <Stats title="Series by metric" stats={head.data.seriesCountByMetricName} unit="series" />
        <Stats title="Series by label pair" stats={head.data.seriesCountByLabelValuePair} unit="series" />
        <Stats title="Values by label" stats={head.data.labelValueCountByLabelName} unit="values" />
        <Stats title="Memory by label" stats={head.data.memoryInBytesByLabelName} unit="bytes" />
      </div>
    </>
  );
}

function Tile(props: { name: string; value: string; note?: string }) {
  return (
    <div class="tile">
      <span class="muted">{props.name}</span>
      <strong>{props.value}</strong>
      {props.note && <span class="muted small">{props.note}</span>}
    </div>
  );
}

function Stats(props: { title: string; stats: Stat[]; unit: string }) {
  const most = Math.max(1, ...props.stats.map((s) => s.value));
  return (
    <section class="card">
      <h2>{props.title}</h2>
      <ol class="bars">
        {props.stats.map((stat) => (
          <li key={stat.name}>
            <span class="bar-fill" style={{ width: `${(100 * stat.value) / most}%` }} aria-hidden="true" />
            <span class="mono">{stat.name}</span>
            <span>{props.unit === 'bytes' ? bytes(stat.value) : count(stat.value)}</span>
          </li>
        ))}
        {props.stats.length === 0 && <li class="muted">nothing yet</li>}
      </ol>
    </section>
  );
}

function Flags() {
  const flags = usePolled<Record<string, string>>('status/flags', 0);
  const [search, setSearch] = useParam('search', '');
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = Object.entries(flags.data ?? {})
    .filter(([name, value]) => words.every((word) => `--${name}=${value}`.toLowerCase().includes(word)))
    .sort(([a], [b]) => a.localeCompare(b));
  return (
    <section class="card">
      <div class="filters">
        <input
          type="search"
          class="search"
          placeholder="Search flags"
          aria-label="Search flags"
          value={search}
          onInput={(e) => setSearch(e.currentTarget.value)}
        />
      </div>
      {flags.error && <ErrorNotice error={flags.error} />}
      <table class="flags">
        <thead>
          <tr>
            <th scope="col">Flag</th>
            <th scope="col">Value</th>
          </tr>
        </thead>
        <tbody>
          {shown.map(([name, value]) => (
            <tr key={name}>
              <td class="mono">--{name}</td>
              <td class="mono">{value}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {flags.data && shown.length === 0 && <Empty title="No flag matches" />}
    </section>
  );
}

function Config() {
  const config = usePolled<{ yaml: string }>('status/config', 0);
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(config.data?.yaml ?? '');
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    } catch {
      // Only allowed on secure pages; the text can be marked by hand.
    }
  };
  if (config.error) return <ErrorNotice error={config.error} />;
  if (!config.data) return <Spinner label="Loading the configuration" />;
  return (
    <section class="card">
      <div class="card-head">
        <p class="muted">The configuration in force; secrets are hidden.</p>
        {isSecureContext && (
          <button type="button" class="quiet" onClick={copy}>
            {copied ? 'Copied' : 'Copy'}
          </button>
        )}
      </div>
      <pre class="yaml" tabIndex={0}>
        <Yaml text={config.data.yaml} />
      </pre>
    </section>
  );
}

/** Keys and comments told apart; no more is needed to read it. */
function Yaml({ text }: { text: string }) {
  return (
    <>
      {text.trimEnd().split('\n').map((line, i) => {
        const match = /^(\s*(?:- )*)([^\s#'"][^:#]*)(:)(\s.*|)$/.exec(line);
        return (
          <span key={i}>
            {match ? (
              <>
                {match[1]}
                <span class="yaml-key">{match[2]}</span>
                {match[3]}
                {match[4]}
              </>
            ) : (
              line
            )}
            {'\n'}
          </span>
        );
      })}
    </>
  );
}
