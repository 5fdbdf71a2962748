// One panel: an expression, how to look at it, and what came.
import { useContext, useEffect, useMemo, useState } from 'preact/hooks';
import { SharedContext } from '../context';
import { bytes, count, span } from '../format';
import { useWidth } from '../hooks';
import { Choice, Empty, ErrorNotice, Notice, Spinner } from '../parts/basics';
import { Icon } from '../parts/icons';
import { Actions } from './actions';
import { MomentControl, RangeControl, RefreshControl, ResolutionControl, widened } from './controls';
import { Editor } from './editor';
import { useExemplars } from './exemplars';
import { Explain, ExplainBar } from './explain';
import { ExplorerDialog } from './explorer';
import { Graph } from './graph';
import { Heatmap } from './heatmap';
import { HistoryDialog } from './history';
import { autoStep, type Mode, type Panel, pointsOf, type Tab } from './panels';
import { StoreControls } from './stores';
import { Table } from './table';
import { type Shown, useQuery } from './usequery';

export interface PanelProps {
  panel: Panel;
  number: number;
  focus: boolean;
  onChange: (panel: Panel, replace?: boolean) => void;
  onRemove?: () => void;
  onCopy: () => void;
}

export function PanelView(props: PanelProps) {
  const { panel, onChange } = props;
  const { gathering } = useContext(SharedContext);
  const [draft, setDraft] = useState(panel.expr);
  const [round, setRound] = useState(0);
  const [dialog, setDialog] = useState<'history' | 'explorer'>();
  const [box, width] = useWidth<HTMLDivElement>();
  useEffect(() => setDraft(panel.expr), [panel.expr]);

  // The width only matters for how finely is asked; small changes of it ask nothing again.
  const step = panel.step ?? autoStep(panel.range, pointsOf(width, panel.density));
  const parts = panel.tab === 'explain' && panel.tree;
  const shown = useQuery(panel, { step, gathering, round, ready: !parts && (panel.tab === 'table' || width > 0) });

  useEffect(() => {
    if (panel.refresh === 0) return;
    const timer = setInterval(() => !document.hidden && setRound((r) => r + 1), panel.refresh);
    return () => clearInterval(timer);
  }, [panel.refresh]);

  const run = (expr: string) => {
    if (expr !== panel.expr) onChange({ ...panel, expr });
    else setRound((r) => r + 1);
  };
  const pick = (expr: string) => {
    setDialog(undefined);
    run(expr);
  };

  return (
    <section class="panel" aria-label={`Query ${props.number}`}>
      <div class="ask">
        <Editor asked={panel.expr} value={draft} onChange={setDraft} onRun={run} focus={props.focus} />
        <button type="button" class="tool" title="Metrics explorer (m)" aria-label="Metrics explorer" data-shortcut="explorer" onClick={() => setDialog('explorer')}>
          <Icon name="compass" size={18} />
        </button>
        <button type="button" class="tool" title="History (h)" aria-label="History" data-shortcut="history" onClick={() => setDialog('history')}>
          <Icon name="history" size={18} />
        </button>
        {shown.busy ? (
          <button type="button" class="run" onClick={shown.stop} title="Give up this query">
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
            ['explain', 'Explain'],
          ]}
          onChange={(tab) => onChange({ ...panel, expr: draft, tab: tab as Tab })}
        />
        {panel.tab === 'graph' && <GraphBar panel={panel} step={step} onChange={onChange} />}
        {panel.tab === 'table' && <MomentControl panel={panel} onChange={onChange} />}
        {panel.tab === 'explain' && <ExplainBar panel={panel} onChange={onChange} />}
        {panel.tab !== 'explain' && <RefreshControl panel={panel} onChange={onChange} />}
        {gathering && <StoreControls panel={panel} onChange={onChange} />}
        <Took shown={shown} />
        <Actions
          panel={panel}
          draft={draft}
          step={step}
          shown={shown}
          onFormat={(expr) => onChange({ ...panel, expr })}
          onCopy={props.onCopy}
          onRemove={props.onRemove}
        />
      </div>
      <div ref={box} class={shown.busy && shown.answer ? 'result busy' : 'result'} aria-busy={shown.busy}>
        <Messages shown={shown} />
        {panel.expr.trim() === '' ? <Suggestions run={run} onExplore={() => setDialog('explorer')} /> : parts ? (
          <Parts panel={panel} round={round} onPick={run} />
        ) : (
          <Outcome panel={panel} shown={shown} onChange={onChange} />
        )}
      </div>
      {dialog === 'history' && <HistoryDialog onPick={pick} onClose={() => setDialog(undefined)} />}
      {dialog === 'explorer' && <ExplorerDialog onPick={pick} onClose={() => setDialog(undefined)} />}
    </section>
  );
}

function GraphBar(props: { panel: Panel; step: number; onChange: PanelProps['onChange'] }) {
  const { panel, onChange } = props;
  return (
    <>
      <RangeControl panel={panel} onChange={onChange} />
      <ResolutionControl panel={panel} step={props.step} onChange={onChange} />
      <Choice
        label="Draw as"
        value={panel.mode}
        options={[
          ['lines', 'Lines'],
          ['stacked', 'Stacked'],
          ['heatmap', 'Heatmap', 'For native histograms'],
        ]}
        onChange={(mode) => onChange({ ...panel, mode: mode as Mode }, true)}
      />
      {panel.mode !== 'heatmap' && (
        <>
          <label class="switch" title="Show zero on the axis">
            <input
              type="checkbox"
              checked={panel.yMin !== undefined}
              onChange={(e) => onChange({ ...panel, yMin: e.currentTarget.checked ? 0 : undefined }, true)}
            />
            From {panel.yMin ?? 0}
          </label>
          <label class="switch" title="Show exemplars of the series in the expression">
            <input
              type="checkbox"
              checked={panel.exemplars}
              onChange={(e) => onChange({ ...panel, exemplars: e.currentTarget.checked }, true)}
            />
            Exemplars
          </label>
        </>
      )}
    </>
  );
}

/** How many results there are and what they cost. */
function Took({ shown }: { shown: Shown }) {
  const { answer } = shown;
  if (!answer || shown.busy) return <span class="took" />;
  const { result } = answer;
  const rows = result.kind === 'grid' ? result.series.length : 'items' in result ? result.items.length : 1;
  return (
    <span class="took" aria-live="polite">
      {count(rows)} {rows === 1 ? 'result' : 'results'} · {span(answer.took)} · {bytes(answer.raw.size)}
    </span>
  );
}

/** The parts of the expression; read by the editor's own parser, which comes with the editor. */
function Parts({ panel, round, onPick }: { panel: Panel; round: number; onPick: (expr: string) => void }) {
  const [view, setView] = useState<{ Pieces: typeof import('./piecesview').default }>();
  useEffect(() => {
    void import('./piecesview').then((module) => setView({ Pieces: module.default }));
  }, []);
  const time = useMemo(() => (panel.end ?? Date.now()) / 1000, [panel.end, round, panel.expr]);
  return view ? <view.Pieces panel={panel} time={time} onPick={onPick} /> : <Spinner label="Loading" />;
}

function Messages({ shown }: { shown: Shown }) {
  return (
    <>
      {shown.error && !shown.busy && <ErrorNotice error={shown.error} />}
      {shown.answer?.warnings.map((text) => (
        <Notice key={text} tone="warn" title="Warning.">
          {text}
        </Notice>
      ))}
      {shown.answer?.infos.map((text) => (
        <Notice key={text} tone="info" title="Note.">
          {text}
        </Notice>
      ))}
    </>
  );
}

function Outcome({ panel, shown, onChange }: { panel: Panel; shown: Shown; onChange: PanelProps['onChange'] }) {
  const { runtime } = useContext(SharedContext);
  const { answer } = shown;
  const result = answer?.result;
  const grid = result?.kind === 'grid' ? result.grid : undefined;
  const wanted = panel.tab === 'graph' && panel.mode !== 'heatmap' && panel.exemplars;
  const { exemplars, error } = useExemplars(wanted, panel.expr, grid);
  if (shown.plan) return <Explain plan={shown.plan} />;
  if (answer?.analysis && shown.tab === 'explain') return <Explain plan={answer.analysis} stats={answer.stats} />;
  if (!result || shown.tab === 'explain') return shown.busy ? <div class="skeleton" aria-hidden="true" /> : null;
  const nothing = result.kind === 'grid' ? result.series.length === 0 : 'items' in result && result.items.length === 0;
  if (nothing) {
    return (
      <Empty title="No series">
        {isYoung(runtime?.startTime)
          ? 'Epimetheus has only just started: the first samples come with the first scrape of each target.'
          : 'Nothing matched at this time. Is the name right, and was there data then?'}
      </Empty>
    );
  }
  if (result.kind !== 'grid') return <Table result={result} />;
  const zoom = (from: number, to: number) => {
    // Whole seconds: what the URL can hold.
    const [first, last] = [Math.floor(from / 1000) * 1000, Math.ceil(to / 1000) * 1000];
    onChange({ ...panel, range: Math.max(1000, last - first), end: last });
  };
  const widen = () => onChange(widened(panel));
  const histograms = result.series.some((one) => one.histograms);
  if (panel.mode === 'heatmap') return <Heatmap series={result.series} grid={result.grid} onZoom={zoom} onWiden={widen} />;
  return (
    <>
      {histograms && (
        <Notice tone="info">
          This result has native histograms.{' '}
          <button type="button" class="example" onClick={() => onChange({ ...panel, mode: 'heatmap' }, true)}>
            Show them as a heatmap
          </button>
        </Notice>
      )}
      {error && <Notice tone="warn" title="No exemplars.">{error}</Notice>}
      {wanted && !error && <p class="muted small">{count(exemplars.length)} exemplars in this time</p>}
      <Graph
        series={result.series}
        grid={result.grid}
        stacked={panel.mode === 'stacked'}
        yMin={panel.yMin}
        exemplars={exemplars}
        onZoom={zoom}
        onWiden={widen}
      />
    </>
  );
}

function isYoung(start?: string): boolean {
  return start !== undefined && Date.now() - Date.parse(start) < 120e3;
}

function Suggestions({ run, onExplore }: { run: (expr: string) => void; onExplore: () => void }) {
  const example = (text: string) => (
    <button type="button" class="example" onClick={() => run(text)}>
      {text}
    </button>
  );
  return (
    <Empty title="Ask something">
      Try {example('up')}, {example('sum by (job) (up)')} or {example('rate(prometheus_http_requests_total[5m])')}, or look{' '}
      <button type="button" class="example" onClick={onExplore}>
        which metrics there are
      </button>
      . The editor completes metrics, labels and functions; <kbd>Enter</kbd> asks, <kbd>Alt</kbd>+<kbd>Enter</kbd> begins a new
      line, <kbd>?</kbd> shows all keys.
    </Empty>
  );
}
