// One panel: it asks when its question changes, and shows what came.
import { useContext, useEffect, useRef, useState } from 'preact/hooks';
import { type Answer, type ApiError, ask, type MatrixItem, type QueryData } from '../api';
import { SharedContext } from '../context';
import { count, span } from '../format';
import { asApiError, useWidth } from '../hooks';
import { Choice, Empty, ErrorNotice, Notice, Spinner } from '../parts';
import { EndInput, RangeInput, StepInput } from './controls';
import { Editor } from './editor';
import { Graph } from './graph';
import { autoStep, type Panel } from './panels';
import { Table } from './table';

interface Asked {
  answer?: Answer<QueryData>;
  error?: ApiError;
  busy: boolean;
  /** How long it took, ms. */
  took: number;
  /** What was asked for, seconds. */
  start: number;
  end: number;
  step: number;
  kind?: 'graph' | 'table';
}

/** More than this is not drawn, and little of it would be seen. */
const MOST_SERIES = 1000;
const MOST_ROWS = 10_000;

export function PanelView(props: {
  panel: Panel;
  number: number;
  focus: boolean;
  onChange: (panel: Panel, replace?: boolean) => void;
  onRemove?: () => void;
  onCopy: () => void;
}) {
  const { panel, onChange } = props;
  const { runtime } = useContext(SharedContext);
  const [draft, setDraft] = useState(panel.expr);
  const [asked, setAsked] = useState<Asked>({ busy: false, took: 0, start: 0, end: 0, step: 0 });
  const [round, setRound] = useState(0);
  const [box, width] = useWidth<HTMLDivElement>();
  const abort = useRef<AbortController | null>(null);
  useEffect(() => setDraft(panel.expr), [panel.expr]);

  // The width only matters for how finely is asked; small changes of it ask nothing again.
  const points = Math.min(600, Math.max(150, Math.round(width / 400) * 200));
  const step = panel.step ?? autoStep(panel.range, points);

  useEffect(() => {
    if (panel.expr.trim() === '' || (panel.tab === 'graph' && width === 0)) return;
    const control = new AbortController();
    abort.current = control;
    const begun = performance.now();
    const now = (panel.end ?? Date.now()) / 1000;
    // On the grid of the step, so that a graph does not tremble when it is asked again.
    const end = panel.end !== undefined ? now : Math.floor(now / step) * step;
    const start = end - panel.range / 1000;
    setAsked((old) => ({ ...old, busy: true }));
    const question =
      panel.tab === 'graph'
        ? ask<QueryData>('query_range', { query: panel.expr, start, end, step, limit: MOST_SERIES }, control.signal)
        : ask<QueryData>('query', { query: panel.expr, time: now, limit: MOST_ROWS }, control.signal);
    const common = { busy: false, start, end, step, kind: panel.tab };
    question.then(
      (answer) => setAsked({ ...common, answer, took: performance.now() - begun }),
      (error) => {
        if (!control.signal.aborted) {
          setAsked({ ...common, error: asApiError(error), took: performance.now() - begun });
        }
      },
    );
    return () => control.abort();
  }, [panel.expr, panel.tab, panel.range, panel.end, step, round, panel.tab === 'graph' && width > 0]);

  const run = (expr: string) => {
    if (expr !== panel.expr) onChange({ ...panel, expr });
    else setRound((r) => r + 1);
  };
  const stop = () => {
    abort.current?.abort();
    setAsked((old) => ({ ...old, busy: false }));
  };
  const data = asked.kind === panel.tab ? asked.answer?.data : undefined;
  const result = data?.result;
  const rows = data && data.resultType !== 'scalar' && data.resultType !== 'string' ? (result?.length ?? 0) : 1;

  return (
    <section class="panel" aria-label={`Query ${props.number}`}>
      <div class="ask">
        <Editor asked={panel.expr} value={draft} onChange={setDraft} onRun={run} focus={props.focus} />
        {asked.busy ? (
          <button type="button" class="run" onClick={stop} title="Give up this query">
            <Spinner label="The query runs" /> Stop
          </button>
        ) : (
          <button type="button" class="run" onClick={() => run(draft)} title="Enter, Ctrl+Enter or Shift+Enter">
            Run
          </button>
        )}
      </div>
      <div class="bar">
        <Choice
          label="Show as"
          value={panel.tab}
          options={[
            ['table', 'Table'],
            ['graph', 'Graph'],
          ]}
          onChange={(tab) => onChange({ ...panel, expr: draft, tab: tab as Panel['tab'] })}
        />
        {panel.tab === 'graph' && (
          <>
            <RangeInput range={panel.range} onChange={(range) => onChange({ ...panel, range })} />
            <EndInput end={panel.end} shift={panel.range / 2} label="End" onChange={(end) => onChange({ ...panel, end })} />
            <StepInput step={panel.step} auto={step} onChange={(step) => onChange({ ...panel, step })} />
            <Choice
              label="Draw as"
              value={panel.stacked ? 'stacked' : 'lines'}
              options={[
                ['lines', 'Lines'],
                ['stacked', 'Stacked'],
              ]}
              onChange={(mode) => onChange({ ...panel, stacked: mode === 'stacked' }, true)}
            />
          </>
        )}
        {panel.tab === 'table' && (
          <EndInput end={panel.end} shift={600e3} label="Time" onChange={(end) => onChange({ ...panel, end })} />
        )}
        <span class="took" aria-live="polite">
          {data && !asked.busy && `${count(rows)} ${rows === 1 ? 'result' : 'results'} · ${span(asked.took)}`}
        </span>
        <button type="button" class="quiet" title="The same query once more below" onClick={props.onCopy}>
          Duplicate
        </button>
        {props.onRemove && (
          <button type="button" class="quiet" onClick={props.onRemove} aria-label={`Remove query ${props.number}`}>
            Remove
          </button>
        )}
      </div>
      <div ref={box} class={asked.busy && data ? 'result busy' : 'result'}>
        {asked.error && !asked.busy && <ErrorNotice error={asked.error} />}
        {asked.answer?.warnings.map((text) => (
          <Notice key={text} tone="warn">
            {text}
          </Notice>
        ))}
        {asked.answer?.infos.map((text) => (
          <Notice key={text} tone="info">
            {text}
          </Notice>
        ))}
        {panel.expr.trim() === '' && (
          <Empty title="Ask something">
            Try <Example text="up" run={run} />, <Example text="sum by (job) (up)" run={run} /> or, after a few scrapes,{' '}
            <Example text="rate(prometheus_http_requests_total[5m])" run={run} />. The editor completes metrics, labels
            and functions; <kbd>Enter</kbd> asks, <kbd>Alt</kbd>+<kbd>Enter</kbd> begins a new line.
          </Empty>
        )}
        {data && rows === 0 && (
          <Empty title="No series">
            {isYoung(runtime?.startTime)
              ? 'Epimetheus has only just started: the first samples come with the first scrape of each target.'
              : 'Nothing matched at this time. Is the name right, and was there data then?'}
          </Empty>
        )}
        {data && rows > 0 && panel.tab === 'table' && <Table data={data} />}
        {data && rows > 0 && panel.tab === 'graph' && data.resultType === 'matrix' && (
          <Graph
            series={data.result as MatrixItem[]}
            start={asked.start}
            end={asked.end}
            step={asked.step}
            stacked={panel.stacked}
            onZoom={(from, to) => {
              // Whole seconds: what the URL can hold.
              const [first, last] = [Math.floor(from / 1000) * 1000, Math.ceil(to / 1000) * 1000];
              onChange({ ...panel, range: Math.max(1000, last - first), end: last });
            }}
            onWiden={() => {
              const middle = (asked.start + asked.end) * 500;
              const end = Math.ceil((middle + panel.range) / 1000) * 1000;
              onChange({ ...panel, range: panel.range * 2, end: end >= Date.now() ? undefined : end });
            }}
          />
        )}
      </div>
    </section>
  );
}

function isYoung(start?: string): boolean {
  return start !== undefined && Date.now() - Date.parse(start) < 120e3;
}

function Example(props: { text: string; run: (expr: string) => void }) {
  return (
    <button type="button" class="example" onClick={() => props.run(props.text)}>
      {props.text}
    </button>
  );
}
