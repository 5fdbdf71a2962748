// Small pieces that all pages are made of.
import type { ComponentChildren } from 'preact';
import type { ApiError } from '../api/ask';
import { base, go, path, useLocation } from '../location';

export function Link(props: { to: string; class?: string; children: ComponentChildren; exact?: boolean; title?: string }) {
  useLocation();
  const here = props.exact ? path() === props.to : path() === props.to || path().startsWith(props.to + '/');
  const click = (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(props.to);
    scrollTo(0, 0);
  };
  return (
    <a href={base + props.to} class={props.class} title={props.title} aria-current={here ? 'page' : undefined} onClick={click}>
      {props.children}
    </a>
  );
}

type Tone = 'bad' | 'warn' | 'info';

export function Notice(props: { tone: Tone; title?: string; children: ComponentChildren }) {
  return (
    <div class={`notice ${props.tone}`} role={props.tone === 'bad' ? 'alert' : 'status'}>
      {props.title && <strong>{props.title}</strong>} {props.children}
    </div>
  );
}

const ERROR_TITLES: Record<string, string> = {
  bad_data: 'The question is not right.',
  execution: 'The query failed.',
  timeout: 'It took too long.',
  canceled: 'It was given up.',
  unavailable: 'Not ready yet.',
  not_found: 'Not served here.',
  network: 'No answer.',
};

export function ErrorNotice({ error }: { error: ApiError }) {
  const tone = error.type === 'unavailable' || error.type === 'not_found' ? 'warn' : 'bad';
  return (
    <Notice tone={tone} title={ERROR_TITLES[error.type] ?? 'Something went wrong.'}>
      <span class="mono">{error.message}</span>
    </Notice>
  );
}

/** A page or a table without content: why, and when there will be some. */
export function Empty(props: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <svg viewBox="0 0 48 48" width="44" height="44" aria-hidden="true">
        <path d="M12 17a14 14 0 1 1-2 7" />
        <path d="M11 9v9h9" />
        <circle cx="24" cy="24" r="3" />
      </svg>
      <h2>{props.title}</h2>
      <p>{props.children}</p>
    </div>
  );
}

export function Spinner({ label }: { label: string }) {
  return (
    <span class="spinner" role="status">
      <span class="visually-hidden">{label}</span>
    </span>
  );
}

/** A choice of a few: radio buttons that look like one control. */
export function Choice(props: {
  label: string;
  value: string;
  options: [value: string, text: ComponentChildren, title?: string][];
  onChange: (value: string) => void;
}) {
  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = props.options.findIndex(([value]) => value === props.value);
    const next = (at + step + props.options.length) % props.options.length;
    const option = props.options[next];
    if (!option) return;
    props.onChange(option[0]);
    const group = event.currentTarget as HTMLElement;
    (group.children[next] as HTMLElement | undefined)?.focus();
  };
  return (
    <div class="choice" role="radiogroup" aria-label={props.label} onKeyDown={move}>
      {props.options.map(([value, text, title]) => (
        <button
          key={value}
          type="button"
          role="radio"
          aria-checked={value === props.value}
          tabIndex={value === props.value ? 0 : -1}
          title={title}
          aria-label={typeof text === 'string' ? undefined : title}
          onClick={() => props.onChange(value)}
        >
          {text}
        </button>
      ))}
    </div>
  );
}

/** Names and values side by side. */
export function Facts({ facts }: { facts: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
