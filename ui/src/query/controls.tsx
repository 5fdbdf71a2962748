// Time and resolution of a panel.
import { useContext, useEffect, useState } from 'preact/hooks';
import { SharedContext } from '../context';
import { dateTime, duration, parseDateTime, parseDuration, span, spanWords } from '../format';
import { Icon } from '../parts/icons';
import { MenuItem, Popover } from '../parts/popover';
import type { Density, Panel } from './panels';

const MINUTE = 60e3;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const RANGES = [
  5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY,
  2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY, 180 * DAY, 365 * DAY,
];

/** A text that is taken over with Enter or when it is left, if it can be read. */
function Field(props: {
  label: string;
  text: string;
  placeholder?: string;
  width: number;
  read: (text: string) => boolean;
  title?: string;
}) {
  const [draft, setDraft] = useState(props.text);
  const [bad, setBad] = useState(false);
  useEffect(() => {
    setDraft(props.text);
    setBad(false);
  }, [props.text]);
  const take = () => {
    if (draft === props.text) return setBad(false);
    setBad(!props.read(draft));
  };
  return (
    <input
      type="text"
      aria-label={props.label}
      aria-invalid={bad}
      title={props.title}
      placeholder={props.placeholder}
      value={draft}
      style={{ width: `${props.width}ch` }}
      spellcheck={false}
      onInput={(e) => setDraft(e.currentTarget.value)}
      onBlur={take}
      onKeyDown={(e) => e.key === 'Enter' && take()}
    />
  );
}

/** The time that a graph shows: relative to now or between two moments. */
export function RangeControl({ panel, onChange }: { panel: Panel; onChange: (panel: Panel) => void }) {
  const { utc } = useContext(SharedContext);
  const { range, end } = panel;
  const text =
    end === undefined
      ? `Last ${spanWords(range)}`
      : `${dateTime(end - range, utc)} → ${dateTime(end, utc)}`;
  const shift = (by: number) => {
    const next = (end ?? Date.now()) + by * range;
    onChange({ ...panel, end: next >= Date.now() ? undefined : Math.floor(next / 1000) * 1000 });
  };
  return (
    <span class="group" role="group" aria-label="Time">
      <button type="button" aria-label="Earlier" title="Half a range earlier" onClick={() => shift(-0.5)}>
        <Icon name="left" size={14} />
      </button>
      <Popover
        class="group-main"
        title="Choose the time"
        label={
          <>
            <Icon name="clock" size={14} /> <span class="numbers">{text}</span> <Icon name="down" size={11} />
          </>
        }
      >
        {(close) => <RangeChooser panel={panel} onChange={onChange} close={close} />}
      </Popover>
      <button type="button" aria-label="Later" title="Half a range later" disabled={end === undefined} onClick={() => shift(0.5)}>
        <Icon name="right" size={14} />
      </button>
      {end !== undefined && (
        <button type="button" title="Up to now" onClick={() => onChange({ ...panel, end: undefined })}>
          Now
        </button>
      )}
      <button
        type="button"
        aria-label="Widen"
        title="Twice the range"
        onClick={() => onChange(widened(panel))}
      >
        <Icon name="widen" size={14} />
      </button>
    </span>
  );
}

/** Twice the range around the same middle. */
export function widened(panel: Panel): Panel {
  const end = panel.end === undefined ? undefined : panel.end + panel.range / 2;
  return { ...panel, range: panel.range * 2, end: end !== undefined && end >= Date.now() ? undefined : end };
}

function RangeChooser({ panel, onChange, close }: { panel: Panel; onChange: (panel: Panel) => void; close: () => void }) {
  const { utc } = useContext(SharedContext);
  const end = panel.end ?? Date.now();
  const [from, setFrom] = useState(dateTime(end - panel.range, utc));
  const [to, setTo] = useState(panel.end === undefined ? 'now' : dateTime(end, utc));
  const [own, setOwn] = useState('');
  const [wrong, setWrong] = useState('');
  const relative = (ms: number | undefined) => {
    if (!ms) return setWrong('A range is written as 90m, 36h or 2w.');
    onChange({ ...panel, range: ms, end: undefined });
    close();
  };
  const absolute = () => {
    const now = to.trim() === '' || to.trim() === 'now';
    const [first, last] = [parseDateTime(from, utc), now ? Date.now() : parseDateTime(to, utc)];
    if (first === undefined || last === undefined) return setWrong('A moment is written as 2026-01-31 or 2026-01-31 18:30:00.');
    if (last <= first) return setWrong('The end is not after the beginning.');
    onChange({ ...panel, range: last - first, end: now ? undefined : last });
    close();
  };
  return (
    <div class="time-chooser">
      <form
        onSubmit={(e) => {
          e.preventDefault();
          absolute();
        }}
      >
        <h3>Between</h3>
        <label>
          <span>From</span>
          <input type="text" class="field mono" value={from} onInput={(e) => setFrom(e.currentTarget.value)} />
        </label>
        <label>
          <span>To</span>
          <input type="text" class="field mono" value={to} onInput={(e) => setTo(e.currentTarget.value)} />
        </label>
        <p class="muted small">In {utc ? 'UTC' : 'the time zone of this browser'}; “now” moves along.</p>
        <button type="submit" class="primary">
          Show
        </button>
        {wrong && (
          <p class="wrong" role="alert">
            {wrong}
          </p>
        )}
      </form>
      <div>
        <h3>Up to now</h3>
        <div class="quick">
          {RANGES.map((ms) => (
            <MenuItem key={ms} checked={panel.end === undefined && panel.range === ms} onClick={() => relative(ms)}>
              {span(ms)}
            </MenuItem>
          ))}
        </div>
        <form
          onSubmit={(e) => {
            e.preventDefault();
            relative(parseDuration(own));
          }}
        >
          <input
            type="text"
            class="field mono"
            aria-label="Another range"
            placeholder="another, such as 90m"
            value={own}
            onInput={(e) => setOwn(e.currentTarget.value)}
          />
        </form>
      </div>
    </div>
  );
}

/** The moment of a table. */
export function MomentControl({ panel, onChange }: { panel: Panel; onChange: (panel: Panel) => void }) {
  const { utc } = useContext(SharedContext);
  const { end } = panel;
  const shift = (by: number) => {
    const next = (end ?? Date.now()) + by;
    onChange({ ...panel, end: next >= Date.now() ? undefined : Math.floor(next / 1000) * 1000 });
  };
  const take = (text: string) => {
    const now = text.trim() === '' || text.trim() === 'now';
    const ms = now ? undefined : parseDateTime(text, utc);
    if (!now && ms === undefined) return false;
    onChange({ ...panel, end: ms });
    return true;
  };
  return (
    <span class="group" role="group" aria-label="Time">
      <button type="button" aria-label="Earlier" title="Ten minutes earlier" onClick={() => shift(-10 * MINUTE)}>
        <Icon name="left" size={14} />
      </button>
      <span class="group-icon">
        <Icon name="clock" size={14} />
      </span>
      <Field
        label="Time"
        title={`When: 2026-01-31 12:00:00, in ${utc ? 'UTC' : 'local time'}; empty for now`}
        text={end === undefined ? '' : dateTime(end, utc)}
        placeholder="now"
        width={end === undefined ? 6 : 20}
        read={take}
      />
      <button type="button" aria-label="Later" title="Ten minutes later" disabled={end === undefined} onClick={() => shift(10 * MINUTE)}>
        <Icon name="right" size={14} />
      </button>
      {end !== undefined && (
        <button type="button" onClick={() => onChange({ ...panel, end: undefined })}>
          Now
        </button>
      )}
    </span>
  );
}

const DENSITIES: [Density, string][] = [
  ['low', 'Coarse'],
  ['medium', 'As the width allows'],
  ['high', 'Fine'],
];
const STEPS = ['1s', '5s', '15s', '30s', '1m', '5m', '15m', '1h', '6h', '1d'];

/** How far points are from each other. */
export function ResolutionControl(props: { panel: Panel; step: number; onChange: (panel: Panel) => void }) {
  const { panel, step, onChange } = props;
  const [own, setOwn] = useState('');
  const text = duration(step * 1000);
  return (
    <Popover title="Resolution: distance of points" label={<><span class="muted">step</span> {panel.step === undefined ? `auto (${text})` : text} <Icon name="down" size={11} /></>}>
      {(close) => {
        const fixed = (ms: number | undefined) => {
          if (!ms) return;
          onChange({ ...panel, step: ms / 1000 });
          close();
        };
        return (
          <div class="menu">
            {DENSITIES.map(([density, name]) => (
              <MenuItem
                key={density}
                checked={panel.step === undefined && panel.density === density}
                onClick={() => {
                  onChange({ ...panel, density, step: undefined });
                  close();
                }}
              >
                {name}
              </MenuItem>
            ))}
            <hr />
            <div class="quick">
              {STEPS.map((name) => (
                <MenuItem key={name} checked={panel.step === (parseDuration(name) ?? 0) / 1000} onClick={() => fixed(parseDuration(name))}>
                  {name}
                </MenuItem>
              ))}
            </div>
            <form
              onSubmit={(e) => {
                e.preventDefault();
                fixed(parseDuration(own));
              }}
            >
              <input
                type="text"
                class="field mono"
                aria-label="Another step"
                placeholder="another, such as 45s"
                value={own}
                onInput={(e) => setOwn(e.currentTarget.value)}
              />
            </form>
          </div>
        );
      }}
    </Popover>
  );
}

const REFRESH = ['5s', '15s', '30s', '1m', '5m', '15m'];

/** Asking again by itself. */
export function RefreshControl({ panel, onChange }: { panel: Panel; onChange: (panel: Panel) => void }) {
  const set = (refresh: number, close: () => void) => {
    onChange({ ...panel, refresh });
    close();
  };
  return (
    <Popover
      title="Ask again by itself"
      name={panel.refresh > 0 ? undefined : 'Ask again by itself'}
      label={<><Icon name="refresh" size={14} /> {panel.refresh > 0 ? duration(panel.refresh) : ''} <Icon name="down" size={11} /></>}>
      {(close) => (
        <div class="menu">
          <MenuItem checked={panel.refresh === 0} onClick={() => set(0, close)}>
            off
          </MenuItem>
          {REFRESH.map((text) => (
            <MenuItem key={text} checked={panel.refresh === parseDuration(text)} onClick={() => set(parseDuration(text) ?? 0, close)}>
              {text}
            </MenuItem>
          ))}
        </div>
      )}
    </Popover>
  );
}
