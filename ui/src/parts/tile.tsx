// A number that is worth a look.
import type { ComponentChildren } from 'preact';

export function Tile(props: { name: string; value: ComponentChildren; note?: ComponentChildren }) {
  return (
    <div class="tile">
      <span class="muted">{props.name}</span>
      <strong>{props.value}</strong>
      {props.note && <span class="muted small">{props.note}</span>}
    </div>
  );
}
