// The frame: navigation, the state of the server, preferences, and the page.
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import type { Notification, RuntimeInfo } from './api/shapes';
import { SharedContext } from './context';
import { ago } from './format';
import { usePolled, usePreference } from './hooks';
import { go, path, useLocation } from './location';
import { GROUPS, movedTo, PAGES, pagesAtFirst } from './nav';
import { Choice, Empty, Link, Notice } from './parts/basics';
import { Icon } from './parts/icons';
import { Shortcuts } from './shortcuts';
import { useTheme } from './theme';

export function App() {
  useLocation();
  const theme = useTheme();
  const [zone, setZone] = usePreference('zone', 'local');
  const [settled, setSettled] = useState(false);
  const server = usePolled<RuntimeInfo>('status/runtimeinfo', settled ? 10_000 : 2000);
  const notices = usePolled<Notification[]>('notifications', 10_000);
  useEffect(() => setSettled(server.data?.ready === 'ready'), [server.data?.ready]);
  const known = server.data?.pages;
  const names = useMemo(() => known ?? pagesAtFirst(), [known?.join()]);
  const pages = useMemo(() => PAGES.filter((page) => names.includes(page.name)), [names]);
  const shared = useMemo(
    () => ({ dark: theme.dark, utc: zone === 'utc', runtime: server.data, gathering: names.includes('stores') }),
    [theme.dark, zone, server.data, names],
  );
  const nextTheme = useCallback(
    () => theme.set({ light: 'dark', dark: 'system', system: 'light' }[theme.theme] ?? 'system'),
    [theme.theme],
  );
  const lost = server.error?.type === 'network';
  const state = lost ? 'unreachable' : (server.data?.ready ?? 'connecting');
  return (
    <SharedContext.Provider value={shared}>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <div class="frame">
        <Navigation
          names={names}
          state={state}
          runtime={server.data}
          settings={<Settings zone={zone} setZone={setZone} theme={theme.theme} setTheme={theme.set} />}
        />
        <main id="main" tabIndex={-1}>
          {lost && (
            <Notice tone="bad" title="The server cannot be reached.">
              What you see may be old. Trying again every two seconds.
            </Notice>
          )}
          {state === 'starting' && (
            <Notice tone="info" title="Epimetheus is starting.">
              It replays what it wrote before it was stopped; queries are answered as soon as all of it is there.
            </Notice>
          )}
          {state === 'stopping' && (
            <Notice tone="warn" title="Epimetheus is stopping.">
              Running queries are finished, new ones are not taken.
            </Notice>
          )}
          {state === 'ready' && notices.data?.map((notice) => (
            <Notice key={notice.text} tone="bad" title={notice.text}>
              Last seen {ago(notice.date)}. What is shown is of the configuration before; the log says what is wrong.
            </Notice>
          ))}
          <View />
        </main>
      </div>
      <Shortcuts pages={pages} onTheme={nextTheme} />
    </SharedContext.Provider>
  );
}

function Navigation(props: { names: string[]; state: string; runtime?: RuntimeInfo; settings: preact.ComponentChildren }) {
  const { names, state, runtime } = props;
  const [open, setOpen] = useState(false);
  const at = path();
  useEffect(() => setOpen(false), [at]);
  return (
    <header class={open ? 'side open' : 'side'}>
      <div class="side-head">
        <Link to="/query" class="brand">
          <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
            <path class="arc" d="M8.2 11.2A9.2 9.2 0 1 1 6.8 16" />
            <path class="arc" d="M7.4 5.8v6h6" />
            <circle cx="16" cy="16" r="3.1" />
          </svg>
          Epimetheus
        </Link>
        <button type="button" class="icon-button side-toggle" aria-label="Pages" aria-expanded={open} onClick={() => setOpen(!open)}>
          <Icon name="menu" size={18} />
        </button>
      </div>
      <nav aria-label="Pages">
        {GROUPS.map((group, i) => {
          const shown = group.filter((page) => names.includes(page.name));
          return (
            shown.length > 0 && (
              <ul key={i}>
                {shown.map((page) => (
                  <li key={page.name}>
                    <Link to={`/${page.name}`} exact>
                      <Icon name={page.icon} /> {page.title}
                    </Link>
                  </li>
                ))}
              </ul>
            )
          );
        })}
      </nav>
      <div class="side-foot">
        <span class={`server ${state}`} title={runtime ? `${runtime.role} on ${runtime.hostname}` : undefined} role="status">
          <i aria-hidden="true" />
          {state === 'ready' && runtime?.role ? runtime.role : state}
          {runtime && <span class="muted host">{runtime.hostname}</span>}
        </span>
        {props.settings}
      </div>
    </header>
  );
}

function Settings(props: { zone: string; setZone: (zone: string) => void; theme: string; setTheme: (theme: string) => void }) {
  return (
    <div class="settings">
      <Choice
        label="Time zone"
        value={props.zone}
        onChange={props.setZone}
        options={[
          ['local', 'Local', 'Times in the time zone of this browser'],
          ['utc', 'UTC', 'Times in UTC'],
        ]}
      />
      <Choice
        label="Theme"
        value={props.theme}
        onChange={props.setTheme}
        options={[
          ['light', <Icon name="sun" size={14} />, 'Light'],
          ['system', <Icon name="system" size={14} />, 'As the system'],
          ['dark', <Icon name="moon" size={14} />, 'Dark'],
        ]}
      />
      <button type="button" class="icon-button" title="Keys (?)" aria-label="Keys" onClick={() => dispatchEvent(new Event('show-shortcuts'))}>
        <Icon name="keyboard" />
      </button>
    </div>
  );
}

function View() {
  const at = path().replace(/(.)\/$/, '$1');
  const moved = movedTo(at);
  useEffect(() => {
    if (moved) go(moved + location.search, true);
  }, [moved]);
  const page = PAGES.find((p) => `/${p.name}` === (moved ?? at));
  if (page) return <page.view />;
  return (
    <Empty title="There is no such page">
      <span class="mono">{at}</span> leads nowhere. <Link to="/query">Ask a query</Link> instead.
    </Empty>
  );
}
