// How the process is doing, and which program it is.
import { useContext } from 'preact/hooks';
import type { BuildInfo, RuntimeInfo } from '../api/shapes';
import { SharedContext } from '../context';
import { ago, bytes, count, dateTime, span } from '../format';
import { usePolled } from '../hooks';
import { ErrorNotice, Facts } from '../parts/basics';
import { Page, useLive } from '../parts/page';

export function RuntimePage() {
  const { utc } = useContext(SharedContext);
  const runtime = useLive<RuntimeInfo>('status/runtimeinfo', 5000);
  const build = usePolled<BuildInfo>('status/buildinfo', 0);
  const info = runtime.data;
  const made = build.data;
  const time = (iso: string) => `${dateTime(Date.parse(iso), utc)} (${ago(iso)})`;
  return (
    <Page title="Runtime & build" live={runtime}>
    <div class="columns">
      <section class="card">
        <h2>Runtime</h2>
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
    </Page>
  );
}
