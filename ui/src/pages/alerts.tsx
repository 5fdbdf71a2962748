// What is wrong: alerting rules and their alerts.
import { useContext, useMemo } from 'preact/hooks';
import type { Alert, Rule, RuleGroup } from '../api/shapes';
import { SharedContext } from '../context';
import { ago, count, dateTime, duration, value } from '../format';
import { useOpen } from '../hooks';
import { useParam } from '../location';
import { Choice, Empty, Link } from '../parts/basics';
import { ExprLink } from '../parts/expr';
import { LabelChips } from '../parts/labels';
import { counted, Page, useLive } from '../parts/page';
import { SearchField, wordsOf } from '../parts/search';
import { VirtualList } from '../parts/virtual';
import { number } from '../query/decode';
import { type GroupRow, rowsOf, ruleText } from './groups';

const STATES = ['all', 'firing', 'pending', 'inactive'] as const;
const TONE = { firing: 'bad', pending: 'warn', inactive: 'good' } as const;

export function AlertsPage() {
  const rules = useLive<{ groups: RuleGroup[] }>('rules?type=alert', 5000);
  const [state, setState] = useParam('state', 'all');
  const [search, setSearch] = useParam('search', '');
  const [closed, toggleGroup] = useOpen();
  const [open, toggleRule] = useOpen();
  const groups = rules.data?.groups;
  const all = useMemo(() => (groups ?? []).flatMap((group) => group.rules), [groups]);
  const rows = useMemo(() => {
    const matches = wordsOf(search);
    const wants = (rule: Rule, group: RuleGroup) => (state === 'all' || rule.state === state) && matches(ruleText(rule, group));
    return rowsOf(groups ?? [], { wants, closed, open });
  }, [groups, state, search, closed, open]);
  const firing = all.reduce((sum, rule) => sum + (rule.alerts ?? []).filter((a) => a.state === 'firing').length, 0);
  return (
    <Page
      title="Alerts"
      live={rules}
      note={groups && (firing > 0 ? `${count(firing)} ${firing === 1 ? 'alert fires' : 'alerts fire'}` : 'nothing fires')}
      filters={
        <>
          <Choice
            label="State"
            value={state}
            onChange={setState}
            options={counted(STATES, (name) => all.filter((rule) => name === 'all' || rule.state === name).length)}
          />
          <SearchField label="Search alerts, labels, expressions" value={search} onChange={setSearch} />
        </>
      }
    >
      {groups && all.length === 0 && (
        <Empty title="No alerting rules">
          <WhereRulesAre />
        </Empty>
      )}
      {all.length > 0 && rows.length === 0 && <Empty title="No rule matches" />}
      <VirtualList
        items={rows}
        keyOf={(row) => row.key}
        estimate={(row) => ({ group: 54, rule: 52, alert: 60 })[row.kind]}
        label="Alerting rules"
        render={(row) => <Row row={row} open={open} closed={closed} toggleRule={toggleRule} toggleGroup={toggleGroup} />}
      />
    </Page>
  );
}

/** Said where there are none. */
export function WhereRulesAre() {
  const { gathering, runtime } = useContext(SharedContext);
  if (gathering) {
    return (
      <>
        None of the <Link to="/stores">stores</Link> that are asked has rules.
      </>
    );
  }
  const from = runtime?.role === 'rule' ? ['--rule-file', 'on the command line'] : ['rule_files', 'in the configuration'];
  return (
    <>
      Rules are read from the files that <span class="mono">{from[0]}</span> names {from[1]}.
    </>
  );
}

function Row(props: {
  row: GroupRow;
  open: ReadonlySet<string>;
  closed: ReadonlySet<string>;
  toggleRule: (key: string) => void;
  toggleGroup: (key: string) => void;
}) {
  const { row } = props;
  switch (row.kind) {
    case 'group':
      return <GroupHead row={row} open={!props.closed.has(row.key)} onToggle={() => props.toggleGroup(row.key)} />;
    case 'rule':
      return <AlertRule rule={row.rule} open={props.open.has(row.key)} onToggle={() => props.toggleRule(row.key)} />;
    case 'alert':
      return <AlertRow alert={row.alert} last={row.last} />;
  }
}

export function GroupHead(props: { row: GroupRow & { kind: 'group' }; open: boolean; onToggle: () => void }) {
  const { group, rules } = props.row;
  return (
    <div class="group-head">
      <button type="button" class="twist" aria-expanded={props.open} aria-label={`Group ${group.name}`} onClick={props.onToggle} />
      <h2>{group.name}</h2>
      <span class="muted small mono">{group.file}</span>
      <span class="muted small group-facts">
        {count(rules)} {rules === 1 ? 'rule' : 'rules'} · every {duration(group.interval * 1000)}
        {group.lastEvaluation.startsWith('0001') ? '' : ` · ${ago(group.lastEvaluation)}, took ${took(group.evaluationTime)}`}
      </span>
    </div>
  );
}

export function took(seconds: number): string {
  const ms = seconds * 1000;
  return seconds >= 1 ? `${seconds.toPrecision(3)} s` : `${ms >= 10 ? Math.round(ms) : ms.toPrecision(2)} ms`;
}

function AlertRule({ rule, open, onToggle }: { rule: Rule; open: boolean; onToggle: () => void }) {
  const state = rule.state ?? 'inactive';
  const alerts = rule.alerts ?? [];
  return (
    <div class={`alert-rule ${state}`}>
      <button type="button" class="alert-head" aria-expanded={open} onClick={onToggle}>
        <span class={`badge ${TONE[state]}`}>{alerts.length > 0 ? `${state} ${count(alerts.length)}` : state}</span>
        <b>{rule.name}</b>
        {rule.health === 'err' && <span class="badge bad">error</span>}
        <span class="muted summary">{summaryOf(rule)}</span>
        {rule.labels?.severity && <span class="badge">{rule.labels.severity}</span>}
      </button>
      {rule.lastError && <p class="target-error">{rule.lastError}</p>}
      {open && (
        <div class="alert-body">
          <ExprLink text={rule.query} tab="graph" />
          <dl class="inline-facts">
            {(rule.duration ?? 0) > 0 && <Fact name="for">{duration((rule.duration ?? 0) * 1000)}</Fact>}
            {(rule.keepFiringFor ?? 0) > 0 && <Fact name="keep firing for">{duration((rule.keepFiringFor ?? 0) * 1000)}</Fact>}
            {Object.keys(rule.labels ?? {}).length > 0 && (
              <Fact name="labels">
                <LabelChips labels={rule.labels ?? {}} />
              </Fact>
            )}
            {Object.entries(rule.annotations ?? {}).map(([name, text]) => (
              <Fact key={name} name={name}>
                <Linked text={text} />
              </Fact>
            ))}
          </dl>
          {alerts.length === 0 && <p class="muted small">No alert is active.</p>}
        </div>
      )}
    </div>
  );
}

/** What people read: filled in if it can only mean one alert. */
function summaryOf(rule: Rule): string {
  const one = rule.alerts?.length === 1 ? rule.alerts[0] : undefined;
  const texts = one?.annotations ?? rule.annotations ?? {};
  return texts.summary ?? texts.description ?? texts.message ?? '';
}

function Fact(props: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{props.name}</dt>
      <dd>{props.children}</dd>
    </div>
  );
}

/** Annotations such as `runbook_url` are links. */
export function Linked({ text }: { text: string }) {
  if (!/^https?:\/\/\S+$/.test(text)) return <>{text}</>;
  return (
    <a href={text} rel="noreferrer" target="_blank">
      {text}
    </a>
  );
}

function AlertRow({ alert, last }: { alert: Alert; last: boolean }) {
  const { utc } = useContext(SharedContext);
  const { alertname: _, ...labels } = alert.labels;
  const annotations = Object.entries(alert.annotations);
  return (
    <div class={last ? 'alert-row last' : 'alert-row'}>
      <span class={`badge ${TONE[alert.state]}`}>{alert.state}</span>
      <div>
        <LabelChips labels={labels} />
        {annotations.map(([name, text]) => (
          <div key={name} class="small">
            <span class="muted">{name}</span> <Linked text={text} />
          </div>
        ))}
      </div>
      <span class="mono value" title={alert.value}>{value(number(alert.value))}</span>
      <span class="muted small nowrap" title={dateTime(Date.parse(alert.activeAt), utc)}>
        {ago(alert.activeAt)}
        {alert.keepFiringSince && <div>only kept since {ago(alert.keepFiringSince)}</div>}
      </span>
    </div>
  );
}
