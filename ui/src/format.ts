// Numbers, spans and times for people.

const UNITS: [string, number][] = [
  ['y', 365 * 86400e3],
  ['w', 7 * 86400e3],
  ['d', 86400e3],
  ['h', 3600e3],
  ['m', 60e3],
  ['s', 1e3],
  ['ms', 1],
];

/** Reads `1h30m` or plain seconds; ms, or undefined. */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Math.round(Number(trimmed) * 1000);
  const match = /^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/.exec(trimmed);
  if (!match || trimmed === '') return undefined;
  return UNITS.reduce((sum, [, size], i) => sum + Number(match[i + 1] ?? 0) * size, 0);
}

/** Writes ms as `1h30m`. */
export function duration(ms: number): string {
  if (ms <= 0) return '0s';
  let rest = Math.round(ms);
  let out = '';
  for (const [unit, size] of UNITS) {
    if ((unit === 'y' || unit === 'w') && rest % size !== 0) continue;
    const count = Math.floor(rest / size);
    if (count > 0) {
      out += count + unit;
      rest -= count * size;
    }
  }
  return out;
}

/** A span in its one or two largest units: `3 d 4 h`, `12 s`, `8 ms`. */
export function span(ms: number): string {
  if (!Number.isFinite(ms)) return '–';
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const parts: string[] = [];
  let rest = ms;
  for (const [unit, size] of UNITS.slice(2, 6)) {
    const count = Math.floor(rest / size);
    if (count > 0 && parts.length < 2) {
      parts.push(`${count} ${unit}`);
      rest -= count * size;
    } else if (parts.length > 0) {
      break;
    }
  }
  return parts.join(' ');
}

/** A span of one unit in words, `5 minutes`; others as `span` has them. */
export function spanWords(ms: number): string {
  for (const [name, size] of [
    ['day', 86400e3],
    ['hour', 3600e3],
    ['minute', 60e3],
    ['second', 1e3],
  ] as const) {
    if (ms >= size && ms % size === 0) return ms === size ? name : `${ms / size} ${name}s`;
  }
  return span(ms);
}

const DAY = 86400e3;

/** Bytes with binary units. */
export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let i = 0;
  let value = n;
  while (value >= 1024 && i < units.length - 1) {
    value /= 1024;
    i++;
  }
  return `${i === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[i]}`;
}

/** A count with thin spaces between thousands. */
export function count(n: number): string {
  return Math.round(n).toLocaleString('en-US').replaceAll(',', '\u202f');
}

/** A value on an axis: short. */
export function axis(n: number): string {
  const size = Math.abs(n);
  if (size === 0) return '0';
  if (size >= 1e15 || size < 1e-4) return n.toExponential(1).replace('.0e', 'e');
  for (const [scale, unit] of [
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (size >= scale) return trim(n / scale) + unit;
  }
  return trim(n);
}

function trim(n: number): string {
  return String(Number(n.toPrecision(4)));
}

/** A value in a tooltip: enough digits, no noise. */
export function value(n: number): string {
  if (Number.isNaN(n)) return 'NaN';
  if (!Number.isFinite(n)) return n > 0 ? '+Inf' : '-Inf';
  const size = Math.abs(n);
  if (size !== 0 && (size >= 1e15 || size < 1e-6)) return n.toExponential(4);
  return String(Number(n.toPrecision(8)));
}

const pad = (n: number) => String(n).padStart(2, '0');

/** `2026-11-23 09:05:16`, in UTC or in local time. */
export function dateTime(ms: number, utc: boolean, seconds = true): string {
  const d = new Date(ms);
  if (Number.isNaN(d.getTime())) return '–';
  const [y, mo, da, h, mi, s] = utc
    ? [d.getUTCFullYear(), d.getUTCMonth(), d.getUTCDate(), d.getUTCHours(), d.getUTCMinutes(), d.getUTCSeconds()]
    : [d.getFullYear(), d.getMonth(), d.getDate(), d.getHours(), d.getMinutes(), d.getSeconds()];
  const day = `${y}-${pad(mo + 1)}-${pad(da)}`;
  return `${day} ${pad(h)}:${pad(mi)}${seconds ? ':' + pad(s) : ''}`;
}

/** Reads what `dateTime` writes, with or without time; ms, or undefined. */
export function parseDateTime(text: string, utc: boolean): number | undefined {
  const match = /^(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?)?$/.exec(text.trim());
  if (!match) return undefined;
  const [y, mo, d, h, mi, s] = match.slice(1).map((part) => Number(part ?? 0)) as [
    number, number, number, number, number, number,
  ];
  const ms = utc ? Date.UTC(y, mo - 1, d, h, mi, s) : new Date(y, mo - 1, d, h, mi, s).getTime();
  return Number.isNaN(ms) ? undefined : ms;
}

/** `12 s ago`; Go's zero time is `never`. */
export function ago(iso: string, now = Date.now()): string {
  const then = Date.parse(iso);
  if (Number.isNaN(then) || then < 0) return 'never';
  const past = now - then;
  if (past < 0) return 'in ' + span(-past);
  if (past > 30 * DAY) return iso.slice(0, 10);
  return past < 1000 ? 'just now' : span(past) + ' ago';
}
