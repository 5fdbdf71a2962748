// How a query is answered: its plan as a tree, with time, samples and bytes of each part if it ran.
import { useState } from 'preact/hooks';
import type { PlanNode, QueryStats } from '../api/shapes';
import { bytes, count } from '../format';
import { Choice } from '../parts/basics';
import type { Panel } from './panels';

export function ExplainBar(props: { panel: Panel; onChange: (panel: Panel) => void }) {
  const { panel, onChange } = props;
  return (
    <>
      {!panel.tree && <Choice
        label="Query"
        value={panel.explainRange ? 'range' : 'instant'}
        options={[
          ['instant', 'Instant', 'The query of the table'],
          ['range', 'Range', 'The query of the graph'],
        ]}
        onChange={(kind) => onChange({ ...panel, explainRange: kind === 'range' })}
      />}
      <Choice
        label="What to show"
        value={panel.tree ? 'tree' : panel.analyze ? 'analyze' : 'plan'}
        options={[
          ['plan', 'Plan', 'How the query would be answered; it is not run'],
          ['analyze', 'Run and measure', 'Runs the query and says what each part took'],
          ['tree', 'Parts', 'What each part of the expression gives by itself'],
        ]}
        onChange={(what) => onChange({ ...panel, analyze: what === 'analyze', tree: what === 'tree' })}
      />
    </>
  );
}

export function Explain({ plan, stats }: { plan: PlanNode; stats?: QueryStats }) {
  const whole = Math.max(nanos(plan), 1);
  const measured = plan.executionTime !== undefined;
  return (
    <div class="explain">
      {stats && <Totals stats={stats} />}
      <div class={measured ? 'plan measured' : 'plan'} role="tree" aria-label="Plan of the query">
        <div class="plan-row plan-head" aria-hidden="true">
          <span>Part</span>
          {measured ? (
            <>
              <span>Time</span>
              <span>Series</span>
              <span>Samples</span>
              <span>Peak</span>
              <span>Bytes</span>
            </>
          ) : (
            <span>Memory</span>
          )}
        </div>
        <Part node={plan} depth={0} whole={whole} measured={measured} />
      </div>
    </div>
  );
}

function Part(props: { node: PlanNode; depth: number; whole: number; measured: boolean }) {
  const { node, depth, whole, measured } = props;
  const [open, setOpen] = useState(true);
  const children = node.children ?? [];
  const time = nanos(node);
  // Time of a part has that of the parts below in it; only what is its own points at the slow one.
  const own = Math.max(0, time - children.reduce((sum, child) => sum + nanos(child), 0));
  const name = /^[^\s({]+/.exec(node.name)?.[0] ?? '';
  const rest = node.name.slice(name.length);
  return (
    <>
      <div class="plan-row" role="treeitem" aria-expanded={children.length > 0 ? open : undefined} aria-level={depth + 1}>
        <span class="plan-name" style={{ paddingLeft: `${depth * 1.4}rem` }}>
          {children.length > 0 ? (
            <button type="button" class="twist" aria-label={open ? 'Fold' : 'Unfold'} aria-expanded={open} onClick={() => setOpen(!open)} />
          ) : (
            <span class="leaf" aria-hidden="true" />
          )}
          <span class="mono">
            <b>{name}</b>
            {rest}
          </span>
          {node.streams === false && (
            <span class="badge" title="Holds its whole input before it answers">
              waits
            </span>
          )}
        </span>
        {measured ? (
          <>
            <span class="plan-time">
              <span class="plan-bar" aria-hidden="true">
                <i style={{ width: `${(100 * time) / whole}%` }} />
                <i class="own" style={{ width: `${(100 * own) / whole}%` }} />
              </span>
              {short(time)}
            </span>
            <span>{count(node.series ?? 0)}</span>
            <span>{count(node.totalSamples ?? 0)}</span>
            <span>{count(node.peakSamples ?? 0)}</span>
            <span>{bytes(node.bytes ?? 0)}</span>
          </>
        ) : (
          <span class="muted">{node.memory ?? ''}</span>
        )}
      </div>
      {open && children.map((child, i) => <Part key={i} node={child} depth={depth + 1} whole={whole} measured={measured} />)}
    </>
  );
}

function Totals({ stats }: { stats: QueryStats }) {
  const seconds = (name: string) => short((stats.timings[name] ?? 0) * 1e9);
  return (
    <div class="tiles">
      {(
        [
          ['Total', seconds('execTotalTime')],
          ['Waiting', seconds('execQueueTime')],
          ['Preparing', seconds('queryPreparationTime')],
          ['Evaluating', seconds('innerEvalTime')],
          ['Samples', count(stats.samples.totalQueryableSamples)],
          ['Peak samples', count(stats.samples.peakSamples)],
        ] as const
      ).map(([name, text]) => (
        <div class="tile" key={name}>
          <span class="muted">{name}</span>
          <strong>{text}</strong>
        </div>
      ))}
    </div>
  );
}

const UNITS: Record<string, number> = { h: 3600e9, m: 60e9, s: 1e9, ms: 1e6, 'µs': 1e3, us: 1e3, ns: 1 };

function nanos(node: PlanNode): number {
  return parseGo(node.executionTime ?? '');
}

/** A duration as Go prints it, `1m2.5s`, in nanoseconds. */
export function parseGo(text: string): number {
  let sum = 0;
  for (const [, digits, unit] of text.matchAll(/([\d.]+)(h|ms|m|s|µs|us|ns)/g)) {
    sum += Number(digits) * (UNITS[unit ?? ''] ?? 0);
  }
  return sum;
}

function short(n: number): string {
  if (n >= 1e9) return `${(n / 1e9).toPrecision(3)} s`;
  if (n >= 1e6) return `${(n / 1e6).toPrecision(3)} ms`;
  if (n >= 1e3) return `${Math.round(n / 1e3)} µs`;
  return n === 0 ? '–' : `${Math.round(n)} ns`;
}
