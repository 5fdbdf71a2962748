// Who is told of alerts.
import type { AlertmanagersData } from '../api/shapes';
import { Empty } from '../parts/basics';
import { Page, useLive } from '../parts/page';

export function AlertmanagersPage() {
  const all = useLive<AlertmanagersData>('alertmanagers', 10_000);
  const lists = [
    { name: 'Told', urls: all.data?.activeAlertmanagers ?? [], tone: 'good', word: 'active' },
    { name: 'Dropped by relabelling', urls: all.data?.droppedAlertmanagers ?? [], tone: '', word: 'dropped' },
  ];
  const none = all.data && lists.every((list) => list.urls.length === 0);
  return (
    <Page title="Alertmanagers" live={all}>
      {none && (
        <Empty title="No Alertmanager">
          Alerts are evaluated, but nobody is told of them: <span class="mono">alerting.alertmanagers</span> in the configuration
          names whom to tell.
        </Empty>
      )}
      {lists.map(
        ({ name, urls, tone, word }) =>
          urls.length > 0 && (
            <section class="card" key={name}>
              <h2>{name}</h2>
              <ul class="plain">
                {urls.map(({ url }) => (
                  <li key={url}>
                    <span class={`badge ${tone}`}>{word}</span> <span class="mono">{url}</span>
                  </li>
                ))}
              </ul>
            </section>
          ),
      )}
    </Page>
  );
}
