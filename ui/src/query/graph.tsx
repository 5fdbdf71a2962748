// Results over time, drawn by uPlot, with a legend to find one's way among many.
import { useContext, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { SharedContext } from '../context';
import { count, dateTime, value } from '../format';
import { useWidth } from '../hooks';
import { MetricLines } from '../parts/labels';
import { colour } from './colours';
import type { Grid, GridSeries } from './decode';
import { drawExemplars, type Exemplar, exemplarAt } from './exemplars';
import { Legend } from './legend';
import { baseOptions, type Column, columnOf, hasLoneSample, HEIGHT, nearest, placeTip, stack, timesOf } from './plot';

/** Series drawn at once; more would be slow and nobody could tell them apart. */
export const MOST_DRAWN = 300;

interface Props {
  series: GridSeries[];
  grid: Grid;
  stacked: boolean;
  yMin?: number;
  exemplars: Exemplar[];
  onZoom: (from: number, to: number) => void;
  onWiden: () => void;
}

export function Graph(props: Props) {
  const [shown, setShown] = useState<GridSeries[]>(props.series);
  const [focus, setFocus] = useState<number | null>(null);
  // The legend chooses among new series only after they were drawn once.
  const [first] = shown;
  const chosen = first && props.series[first.index] !== first ? props.series : shown;
  const drawn = useMemo(() => chosen.slice(0, MOST_DRAWN), [chosen]);
  return (
    <div class="graph">
      <Plot {...props} drawn={drawn} focus={focus} />
      <p class="hint">
        {chosen.length > drawn.length && (
          <strong>
            Drawn are {count(drawn.length)} of {count(chosen.length)} series, in the order of the legend: sort or filter it to
            see others.{' '}
          </strong>
        )}
        Drag to zoom, double-click to widen. Click a series to see it alone, <kbd>Ctrl</kbd>+click to switch it.
      </p>
      <Legend series={props.series} drawn={drawn.length} onShown={setShown} onFocus={setFocus} />
    </div>
  );
}

interface Tip {
  /** Place among the drawn. */
  series: number;
  step: number;
  exemplar?: Exemplar;
}

function Plot(props: Props & { drawn: GridSeries[]; focus: number | null }) {
  const { drawn, grid, stacked, focus } = props;
  const { dark, utc } = useContext(SharedContext);
  const [box, width] = useWidth<HTMLDivElement>();
  const host = useRef<HTMLDivElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [near, setNear] = useState<Tip | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const times = useMemo(() => timesOf(grid), [grid]);

  useEffect(() => {
    const parent = host.current;
    if (!parent || width === 0) return;
    const raw = drawn.map(columnOf);
    const columns = stacked ? stack(raw) : raw;
    const options = baseOptions({
      width,
      grid,
      utc,
      on: () => ({ zoom: latest.current.onZoom, widen: latest.current.onWiden }),
    });
    options.focus = { alpha: 0.2 };
    const least = props.yMin;
    options.scales = {
      ...options.scales,
      y: least === undefined ? {} : { range: (_, min, max) => uPlot.rangeNum(Math.min(least, min), Math.max(max, least), 0.1, true) },
    };
    options.series = [{}, ...drawn.map((one, i) => lineOf(one, columns[i] ?? [], stacked, drawn.length, dark))];
    if (stacked) options.bands = drawn.slice(1).map((_, i) => ({ series: [i + 2, i + 1] as [number, number] }));
    options.hooks = {
      ...options.hooks,
      draw: [(u) => drawExemplars(u, latest.current.exemplars)],
      setCursor: [
        (u) => {
          const { left = -1, top = -1, idx } = u.cursor;
          // Where the crosshair only follows another panel there is nothing to say.
          if (left < 0 || idx == null || !u.over.matches(':hover, :focus')) return setNear(null);
          if (tip.current) placeTip(u, tip.current);
          const exemplar = exemplarAt(u, latest.current.exemplars, left, top);
          const found = nearest(u, idx, top);
          setNear(found === null && !exemplar ? null : { series: found ?? -1, step: idx, exemplar });
        },
      ],
    };
    const chart = new uPlot(options, [times, ...columns] as uPlot.AlignedData, parent);
    plot.current = chart;
    return () => {
      chart.destroy();
      plot.current = null;
      setNear(null);
    };
  }, [times, drawn, width, dark, utc, stacked, props.yMin]);

  useEffect(() => plot.current?.redraw(false), [props.exemplars]);
  useEffect(() => {
    const at = focus === null ? -1 : drawn.findIndex((one) => one.index === focus);
    plot.current?.setSeries(at < 0 ? null : at + 1, { focus: true });
  }, [focus, drawn]);

  const move = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const chart = plot.current;
    if (!by || !chart) return;
    event.preventDefault();
    const at = Math.min(times.length - 1, Math.max(0, (chart.cursor.idx ?? (by > 0 ? -1 : times.length)) + by));
    const first = chart.data.slice(1).find((column) => column[at] != null)?.[at];
    chart.setCursor({ left: chart.valToPos(times[at] ?? 0, 'x'), top: first == null ? 0 : chart.valToPos(first, 'y') });
    const found = nearest(chart, at, chart.cursor.top ?? 0);
    if (tip.current) placeTip(chart, tip.current);
    setNear(found === null ? null : { series: found, step: at });
  };
  const one = near && drawn[near.series];

  return (
    <div ref={box}>
      <div
        class="plot"
        ref={host}
        style={{ minHeight: `${HEIGHT}px` }}
        role="application"
        aria-roledescription="graph"
        aria-label={`Graph of ${count(drawn.length)} series; the arrow keys walk along it`}
        tabIndex={0}
        onKeyDown={move}
        onBlur={() => setNear(null)}
      >
        <div class="tip" ref={tip} hidden={!near} role="status">
          {near?.exemplar ? (
            <ExemplarTip exemplar={near.exemplar} utc={utc} />
          ) : (
            near &&
            one && (
              <>
                <time>{dateTime((times[near.step] ?? 0) * 1000, utc)}</time>
                <div class="tip-value">
                  <i style={{ background: colour(one.index, dark) }} />
                  {value(one.values[near.step] ?? NaN)}
                </div>
                <MetricLines labels={one.metric} />
              </>
            )
          )}
        </div>
      </div>
    </div>
  );
}

function ExemplarTip({ exemplar, utc }: { exemplar: Exemplar; utc: boolean }) {
  return (
    <>
      <time>{dateTime(exemplar.timestamp * 1000, utc)}</time>
      <div class="tip-value">
        <i class="diamond" />
        {value(exemplar.value)} <span class="muted small">exemplar</span>
      </div>
      <MetricLines labels={exemplar.labels} />
      <div class="muted">of</div>
      <MetricLines labels={exemplar.seriesLabels} />
    </>
  );
}

function lineOf(one: GridSeries, column: Column, stacked: boolean, of: number, dark: boolean): uPlot.Series {
  return {
    stroke: colour(one.index, dark),
    width: stacked ? (of > 40 ? 0 : 1) : of > 100 ? 1 : 1.6,
    fill: stacked ? colour(one.index, dark, dark ? 0.35 : 0.4) : undefined,
    points: { show: hasLoneSample(column) },
  };
}
