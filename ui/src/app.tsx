// The frame: navigation, the state of the server, preferences, and the page.
import { useMemo } from 'preact/hooks';
import type { RuntimeInfo } from './api';
import { SharedContext } from './context';
import { usePolled, usePreference } from './hooks';
import { path, useLocation } from './location';
import { BucketPage } from './pages/bucket';
import { StatusPage } from './pages/status';
import { TargetsPage } from './pages/targets';
import { Choice, Empty, Link, Notice } from './parts';
import { QueryPage } from './query/page';
import { useTheme } from './theme';

export function App() {
  useLocation();
  const theme = useTheme();
  const [zone, setZone] = usePreference('zone', 'local');
  const server = usePolled<RuntimeInfo>('status/runtimeinfo', 10_000);
  const shared = useMemo(
    () => ({ dark: theme.dark, utc: zone === 'utc', runtime: server.data }),
    [theme.dark, zone, server.data],
  );
  const lost = server.error && server.error.type === 'network';
  const state = lost ? 'unreachable' : (server.data?.ready ?? 'connecting');
  return (
    <SharedContext.Provider value={shared}>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="top">
        <Link to="/query" class="brand">
          <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
            <path class="arc" d="M8.2 11.2A9.2 9.2 0 1 1 6.8 16" />
            <path class="arc" d="M7.4 5.8v6h6" />
            <circle cx="16" cy="16" r="3.1" />
          </svg>
          Epimetheus
        </Link>
        <nav aria-label="Pages">
          <Link to="/query">Query</Link>
          <Link to="/targets">Targets</Link>
          <Link to="/bucket">Bucket</Link>
          <Link to="/status">Status</Link>
        </nav>
        <div class="top-right">
          <span class={`server ${state}`} title={server.data ? `${server.data.role} on ${server.data.hostname}` : undefined}>
            <i aria-hidden="true" />
            {state}
          </span>
          <Choice
            label="Time zone"
            value={zone}
            onChange={setZone}
            options={[
              ['local', 'Local', 'Times in the time zone of this browser'],
              ['utc', 'UTC', 'Times in UTC'],
            ]}
          />
          <Choice
            label="Theme"
            value={theme.theme}
            onChange={theme.set}
            options={[
              ['light', <Sun />, 'Light'],
              ['system', <Half />, 'As the system'],
              ['dark', <Moon />, 'Dark'],
            ]}
          />
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {lost && <Notice tone="bad" title="The server cannot be reached.">What you see may be old. Trying again every two seconds.</Notice>}
        {state === 'starting' && (
          <Notice tone="info" title="Epimetheus is starting.">
            It replays what it wrote before it was stopped; queries are answered as soon as all of it is there.
          </Notice>
        )}
        {state === 'stopping' && <Notice tone="warn" title="Epimetheus is stopping." >Running queries are finished, new ones are not taken.</Notice>}
        <Page />
      </main>
    </SharedContext.Provider>
  );
}

function Page() {
  const at = path();
  if (at === '/query' || at === '/') return <QueryPage />;
  if (at === '/targets') return <TargetsPage />;
  if (at === '/bucket') return <BucketPage />;
  if (at === '/status' || at.startsWith('/status/')) return <StatusPage section={at.slice('/status/'.length)} />;
  return (
    <Empty title="There is no such page">
      <span class="mono">{at}</span> leads nowhere. <Link to="/query">Ask a query</Link> instead.
    </Empty>
  );
}

const Sun = () => (
  <svg viewBox="0 0 16 16" width="15" height="15" aria-label="Light" class="icon">
    <circle cx="8" cy="8" r="3" />
    <path d="M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M13 3l-1.2 1.2M4.2 11.8 3 13" />
  </svg>
);
const Moon = () => (
  <svg viewBox="0 0 16 16" width="15" height="15" aria-label="Dark" class="icon">
    <path d="M13.2 9.7A5.8 5.8 0 0 1 6.3 2.8a5.8 5.8 0 1 0 6.9 6.9Z" />
  </svg>
);
const Half = () => (
  <svg viewBox="0 0 16 16" width="15" height="15" aria-label="As the system" class="icon">
    <circle cx="8" cy="8" r="5.6" />
    <path class="solid" d="M8 2.4a5.6 5.6 0 0 1 0 11.2Z" />
  </svg>
);
