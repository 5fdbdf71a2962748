// Range, end and resolution of a panel.
import { useContext, useEffect, useState } from 'preact/hooks';
import { SharedContext } from '../context';
import { dateTime, duration, parseDateTime, parseDuration } from '../format';

const RANGES = ['1m', '5m', '15m', '30m', '1h', '2h', '6h', '12h', '1d', '2d', '1w', '2w', '4w', '8w', '1y', '2y'].map(
  (text) => parseDuration(text) ?? 0,
);

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

export function RangeInput(props: { range: number; onChange: (range: number) => void }) {
  const { range, onChange } = props;
  return (
    <span class="group" role="group" aria-label="Range">
      <button type="button" aria-label="Shorter range" onClick={() => onChange(RANGES.findLast((r) => r < range) ?? range)}>
        −
      </button>
      <Field
        label="Range"
        title="How much time the graph shows, such as 90m or 2d"
        text={duration(range)}
        width={7}
        read={(text) => {
          const ms = parseDuration(text);
          if (!ms) return false;
          onChange(ms);
          return true;
        }}
      />
      <button type="button" aria-label="Longer range" onClick={() => onChange(RANGES.find((r) => r > range) ?? range)}>
        +
      </button>
    </span>
  );
}

export function EndInput(props: {
  end?: number;
  shift: number;
  label: string;
  onChange: (end?: number) => void;
}) {
  const { utc } = useContext(SharedContext);
  const { end, shift, onChange } = props;
  const later = () => {
    const next = (end ?? Date.now()) + shift;
    onChange(next >= Date.now() ? undefined : Math.floor(next));
  };
  return (
    <span class="group" role="group" aria-label={props.label}>
      <button type="button" aria-label="Earlier" onClick={() => onChange(Math.floor((end ?? Date.now()) - shift))}>
        ‹
      </button>
      <Field
        label={props.label}
        title={`${props.label}: 2026-01-31 12:00:00, in ${utc ? 'UTC' : 'local time'}; empty for now`}
        text={end === undefined ? '' : dateTime(end, utc)}
        placeholder="now"
        width={end === undefined ? 6 : 20}
        read={(text) => {
          if (text.trim() === '' || text.trim() === 'now') {
            onChange(undefined);
            return true;
          }
          const ms = parseDateTime(text, utc);
          if (ms === undefined) return false;
          onChange(ms);
          return true;
        }}
      />
      <button type="button" aria-label="Later" disabled={end === undefined} onClick={later}>
        ›
      </button>
      {end !== undefined && (
        <button type="button" onClick={() => onChange(undefined)}>
          Now
        </button>
      )}
    </span>
  );
}

export function StepInput(props: { step?: number; auto: number; onChange: (step?: number) => void }) {
  return (
    <span class="group" role="group" aria-label="Resolution">
      <span class="tag">step</span>
      <Field
        label="Resolution"
        title="Distance of points, such as 15s; empty for as fine as the width allows"
        text={props.step === undefined ? '' : duration(props.step * 1000)}
        placeholder={duration(props.auto * 1000)}
        width={6}
        read={(text) => {
          if (text.trim() === '') {
            props.onChange(undefined);
            return true;
          }
          const ms = parseDuration(text);
          if (!ms) return false;
          props.onChange(ms / 1000);
          return true;
        }}
      />
    </span>
  );
}
