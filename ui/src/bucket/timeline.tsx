// Blocks over time: a row for each resolution and level of a group; dragging zooms.
import { useContext, useState } from 'preact/hooks';
import { SharedContext } from '../context';
import { useWidth } from '../hooks';
import { bytes, count, dateTime, span } from '../format';
import { type Block, type Group, resolutionText } from './blocks';

export interface Frame {
  from: number;
  to: number;
}

/** Below this share of the width a block would not be seen. */
const LEAST = 0.15;

export function Timeline(props: {
  group: Group;
  frame: Frame;
  chosen?: string;
  onChoose: (block: Block) => void;
  onZoom: (frame: Frame) => void;
}) {
  const { group, frame, chosen } = props;
  const { utc } = useContext(SharedContext);
  const [box, width] = useWidth<HTMLDivElement>();
  const [drag, setDrag] = useState<{ from: number; to: number }>();
  const whole = Math.max(1, frame.to - frame.from);
  const percent = (ms: number) => (100 * (ms - frame.from)) / whole;
  const at = (event: PointerEvent) => {
    const rect = box.current?.getBoundingClientRect();
    return rect && rect.width > 0 ? Math.min(1, Math.max(0, (event.clientX - rect.left) / rect.width)) : 0;
  };
  const end = (event: PointerEvent) => {
    if (!drag) return;
    const [low, high] = [Math.min(drag.from, at(event)), Math.max(drag.from, at(event))];
    setDrag(undefined);
    if (high - low > 0.01) props.onZoom({ from: frame.from + low * whole, to: frame.from + high * whole });
  };
  return (
    <div class="timeline">
      <div class="timeline-names" aria-hidden="true">
        {group.rows.map((row, i) => (
          <span key={i} class={row.overlap ? 'muted' : undefined}>
            {row.overlap ? 'overlapping' : `${resolutionText(row.resolution)} · ${row.level}`}
          </span>
        ))}
      </div>
      <div
        class="timeline-rows"
        ref={box}
        onPointerDown={(e) => e.button === 0 && setDrag({ from: at(e), to: at(e) })}
        onPointerMove={(e) => drag && setDrag({ ...drag, to: at(e) })}
        onPointerUp={end}
        onPointerLeave={() => setDrag(undefined)}
      >
        {group.rows.map((row, i) => (
          <div class={row.overlap ? 'lane overlap' : 'lane'} key={i}>
            {row.blocks
              .filter((b) => b.max >= frame.from && b.min <= frame.to)
              .map((b) => {
                const [left, right] = [Math.max(0, percent(b.min)), Math.min(100, percent(b.max))];
                return (
                  <button
                    key={b.ulid}
                    type="button"
                    class={`block ${resolutionClass(b.resolution)} ${b.marks.some((m) => m.kind === 'deletion') ? 'marked' : ''}`}
                    aria-pressed={b.ulid === chosen}
                    aria-label={`Block ${b.ulid}, ${resolutionText(b.resolution)}, level ${b.level}, ${dateTime(b.min, utc)}, ${span(b.max - b.min)}`}
                    title={`${b.ulid}\n${dateTime(b.min, utc)}, ${span(b.max - b.min)}\nlevel ${b.level}, ${resolutionText(b.resolution)}\n${count(b.samples)} samples${b.bytes === undefined ? '' : `, ${bytes(b.bytes)}`}`}
                    style={{ left: `${left}%`, width: `${Math.max(LEAST, right - left)}%` }}
                    onClick={() => props.onChoose(b)}
                  />
                );
              })}
          </div>
        ))}
        {drag && (
          <div
            class="timeline-drag"
            style={{ left: `${100 * Math.min(drag.from, drag.to)}%`, width: `${100 * Math.abs(drag.to - drag.from)}%` }}
          />
        )}
        <Ticks frame={frame} utc={utc} most={Math.max(2, Math.floor(width / 105))} />
      </div>
    </div>
  );
}

export function resolutionClass(ms: number): string {
  return ms === 0 ? 'raw' : ms <= 300_000 ? 'coarse' : 'coarser';
}

const STEPS = [1, 2, 3, 6, 12, 24, 48, 7 * 24, 14 * 24, 30 * 24, 91 * 24, 182 * 24, 365 * 24].map((hours) => hours * 3600e3);

function Ticks({ frame, utc, most }: { frame: Frame; utc: boolean; most: number }) {
  const whole = Math.max(1, frame.to - frame.from);
  const step = STEPS.find((s) => whole / s <= most) ?? whole / most;
  const offset = utc ? 0 : new Date(frame.to).getTimezoneOffset() * 60e3;
  const first = Math.ceil((frame.from - offset) / step) * step + offset;
  const ticks: number[] = [];
  // What stands at the very edge would reach beyond it.
  for (let ms = first; ms <= frame.to - whole / 30; ms += step) ticks.push(ms);
  return (
    <div class="ticks" aria-hidden="true">
      {ticks.map((ms) => (
        <span key={ms} style={{ left: `${(100 * (ms - frame.from)) / whole}%` }}>
          {step >= 86400e3 ? dateTime(ms, utc, false).slice(0, 10) : dateTime(ms, utc, false).slice(5)}
        </span>
      ))}
    </div>
  );
}
