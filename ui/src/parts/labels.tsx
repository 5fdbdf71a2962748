// Label sets.
import type { Labels } from '../api/shapes';

/** `name{label="value"}` with its parts told apart. */
export function Metric({ labels }: { labels: Labels }) {
  const { __name__: name, ...rest } = labels;
  const pairs = Object.entries(rest);
  return (
    <span class="metric">
      {name && <span class="metric-name">{name}</span>}
      {(pairs.length > 0 || !name) && '{'}
      {pairs.map(([label, value], i) => (
        <span key={label}>
          {i > 0 && ', '}
          <span class="label-name">{labelText(label)}</span>=<span class="label-value">{JSON.stringify(value)}</span>
        </span>
      ))}
      {(pairs.length > 0 || !name) && '}'}
    </span>
  );
}

export function LabelChips({ labels }: { labels: Labels }) {
  return (
    <span class="chips">
      {Object.entries(labels).map(([name, value]) => (
        <span class="chip" key={name}>
          <span class="label-name">{name}</span>={JSON.stringify(value)}
        </span>
      ))}
    </span>
  );
}

/** A label set, a line for each label. */
export function MetricLines({ labels }: { labels: Labels }) {
  return (
    <div class="metric-lines">
      {Object.entries(labels).map(([name, text]) => (
        <div key={name}>
          <span class="label-name">{name === '__name__' ? 'name' : name}</span> {text}
        </div>
      ))}
    </div>
  );
}

/** `name{label="value"}` as text. */
export function metricText(labels: Labels): string {
  const { __name__: name = '', ...rest } = labels;
  const pairs = Object.entries(rest).map(([label, value]) => `${labelText(label)}=${JSON.stringify(value)}`);
  return pairs.length > 0 || !name ? `${name}{${pairs.join(', ')}}` : name;
}

/** A label's name as PromQL writes it: quoted if it is not an old name. */
export function labelText(name: string): string {
  return /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) ? name : JSON.stringify(name);
}
