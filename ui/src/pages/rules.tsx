// All rules: what they compute and how their evaluation goes.
import { useMemo } from 'preact/hooks';
import type { Rule, RuleGroup } from '../api/shapes';
import { ago, count } from '../format';
import { useOpen } from '../hooks';
import { useParam } from '../location';
import { Choice, Empty } from '../parts/basics';
import { ExprLink } from '../parts/expr';
import { LabelChips } from '../parts/labels';
import { counted, Page, useLive } from '../parts/page';
import { SearchField, wordsOf } from '../parts/search';
import { VirtualList } from '../parts/virtual';
import { GroupHead, took, WhereRulesAre } from './alerts';
import { rowsOf, ruleText } from './groups';

const HEALTHS = ['all', 'ok', 'err', 'unknown'] as const;
const TONE = { ok: 'good', err: 'bad', unknown: '' } as const;
const NONE: ReadonlySet<string> = new Set();

export function RulesPage() {
  const rules = useLive<{ groups: RuleGroup[] }>('rules?exclude_alerts=true', 5000);
  const [health, setHealth] = useParam('health', 'all');
  const [type, setType] = useParam('type', 'all');
  const [search, setSearch] = useParam('search', '');
  const [closed, toggle] = useOpen();
  const groups = rules.data?.groups;
  const all = useMemo(() => (groups ?? []).flatMap((group) => group.rules), [groups]);
  const rows = useMemo(() => {
    const matches = wordsOf(search);
    const wants = (rule: Rule, group: RuleGroup) =>
      (health === 'all' || rule.health === health) && (type === 'all' || rule.type === type) && matches(ruleText(rule, group));
    return rowsOf(groups ?? [], { wants, closed, open: NONE });
  }, [groups, health, type, search, closed]);
  return (
    <Page
      title="Rules"
      live={rules}
      note={groups && `${count(all.length)} in ${count(groups.length)} ${groups.length === 1 ? 'group' : 'groups'}`}
      filters={
        <>
          <Choice
            label="Health"
            value={health}
            onChange={setHealth}
            options={counted(HEALTHS, (name) => all.filter((rule) => name === 'all' || rule.health === name).length)}
          />
          <Choice
            label="Type"
            value={type}
            onChange={setType}
            options={[
              ['all', 'all'],
              ['alerting', 'alerting'],
              ['recording', 'recording'],
            ]}
          />
          <SearchField label="Search rules, expressions, files" value={search} onChange={setSearch} />
        </>
      }
    >
      {groups && all.length === 0 && (
        <Empty title="No rules">
          <WhereRulesAre />
        </Empty>
      )}
      {all.length > 0 && rows.length === 0 && <Empty title="No rule matches" />}
      <VirtualList
        items={rows}
        keyOf={(row) => row.key}
        estimate={(row) => (row.kind === 'group' ? 54 : 76)}
        label="Rules"
        render={(row) =>
          row.kind === 'group' ? (
            <GroupHead row={row} open={!closed.has(row.key)} onToggle={() => toggle(row.key)} />
          ) : row.kind === 'rule' ? (
            <RuleRow rule={row.rule} />
          ) : null
        }
      />
    </Page>
  );
}

function RuleRow({ rule }: { rule: Rule }) {
  return (
    <div class="rule-row">
      <div class="rule-title">
        <span class={`badge ${TONE[rule.health]}`}>{rule.health}</span>
        <span class="muted small">{rule.type === 'alerting' ? 'alert' : 'record'}</span>
        <b class={rule.type === 'recording' ? 'mono' : undefined}>{rule.name}</b>
        <LabelChips labels={rule.labels ?? {}} />
        <span class="muted small group-facts">
          {rule.lastEvaluation.startsWith('0001') ? 'not evaluated yet' : `${ago(rule.lastEvaluation)}, took ${took(rule.evaluationTime)}`}
        </span>
      </div>
      <ExprLink text={rule.query} tab={rule.type === 'recording' ? 'table' : 'graph'} />
      {rule.lastError && <div class="target-error">{rule.lastError}</div>}
    </div>
  );
}
