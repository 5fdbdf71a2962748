// Line icons, 16 by 16, drawn in the colour of their text.
const PATHS = {
  query: 'M2.5 4h11M2.5 8h7M2.5 12h4M12.6 12.6l1.9 1.9M10.6 9.4a2.1 2.1 0 1 0 0 4.2 2.1 2.1 0 0 0 0-4.2Z',
  alerts: 'M8 2.2a4 4 0 0 1 4 4c0 3.4 1.5 4.6 1.5 4.6h-11S4 9.6 4 6.2a4 4 0 0 1 4-4ZM6.6 13.2a1.5 1.5 0 0 0 2.8 0',
  rules: 'M3 3.5h10M3 8h10M3 12.5h6M11 12l1.3 1.3 2.2-2.6',
  targets: 'M8 1.8v2.4M8 11.8v2.4M1.8 8h2.4M11.8 8h2.4M8 4.2a3.8 3.8 0 1 1 0 7.6 3.8 3.8 0 0 1 0-7.6ZM8 7.4v1.2',
  discovery: 'M8 8 4 4.6M8 8l4-3.4M8 8v4.2M3.4 2.4a1.4 1.4 0 1 1 0 2.8 1.4 1.4 0 0 1 0-2.8ZM12.6 2.4a1.4 1.4 0 1 1 0 2.8 1.4 1.4 0 0 1 0-2.8ZM8 11.6a1.4 1.4 0 1 1 0 2.8 1.4 1.4 0 0 1 0-2.8Z',
  alertmanagers: 'M2.5 4.5h11v8h-11ZM2.5 5l5.5 4 5.5-4',
  stores: 'M2.8 3h10.4v3.6H2.8ZM2.8 9.4h10.4V13H2.8ZM5 4.8h.01M5 11.2h.01',
  tsdb: 'M8 2c3 0 5 .9 5 2s-2 2-5 2-5-.9-5-2 2-2 5-2ZM3 4v8c0 1.1 2 2 5 2s5-.9 5-2V4M3 8c0 1.1 2 2 5 2s5-.9 5-2',
  blocks: 'M2 3.5h5v3H2ZM8.6 3.5H14v3H8.6ZM4.2 9.2h7.6v3.3H4.2Z',
  loaded: 'M2 3.5h5v3H2ZM8.6 3.5H14v3H8.6ZM8 9v5M5.8 12 8 14.2 10.2 12',
  status: 'M8 1.9a6.1 6.1 0 1 1 0 12.2A6.1 6.1 0 0 1 8 1.9ZM8 7.2v3.6M8 5h.01',
  flags: 'M4 14V2.4M4 3c3-1.6 4.6 1.4 8 0v6c-3.4 1.4-5-1.6-8 0',
  config: 'M5.5 3 1.8 8l3.7 5M10.5 3l3.7 5-3.7 5',
  clock: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM8 4.8V8l2.3 1.6',
  history: 'M2.6 8a5.4 5.4 0 1 0 1.7-3.9M2.4 2.6v2.6H5M8 5.2V8l2 1.4',
  compass: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM10.6 5.4 9.2 9.2l-3.8 1.4 1.4-3.8Z',
  copy: 'M5.5 5.5h8v8h-8ZM3.2 10.5h-.7v-8h8v.7',
  more: 'M3.5 8h.01M8 8h.01M12.5 8h.01',
  close: 'M4 4l8 8M12 4l-8 8',
  plus: 'M8 3v10M3 8h10',
  left: 'M10 3.5 5.5 8l4.5 4.5',
  right: 'M6 3.5 10.5 8 6 12.5',
  down: 'M4 6l4 4 4-4',
  widen: 'M7 2.6a4.4 4.4 0 1 1 0 8.8 4.4 4.4 0 0 1 0-8.8ZM10.3 10.3l3.4 3.4M5 7h4',
  format: 'M3 4h10M5.5 8H13M5.5 12H11',
  keyboard: 'M1.8 4h12.4v8H1.8ZM4 6.4h.01M6.6 6.4h.01M9.3 6.4h.01M12 6.4h.01M4.6 9.6h6.8',
  menu: 'M2.5 4.5h11M2.5 8h11M2.5 11.5h11',
  refresh: 'M13 8a5 5 0 1 1-1.5-3.6M13.2 2.2v3h-3',
  star: 'M8 2.2l1.8 3.7 4 .6-2.9 2.8.7 4L8 11.4l-3.6 1.9.7-4-2.9-2.8 4-.6Z',
  sun: 'M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6ZM8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M13 3l-1.2 1.2M4.2 11.8 3 13',
  moon: 'M13.2 9.7A5.8 5.8 0 0 1 6.3 2.8a5.8 5.8 0 1 0 6.9 6.9Z',
  system: 'M2 3h12v8H2ZM6 13.8h4M8 11v2.8',
  link: 'M6.6 9.4 9.4 6.6M7.3 4.6l1.2-1.2a2.9 2.9 0 0 1 4.1 4.1l-1.2 1.2M8.7 11.4l-1.2 1.2a2.9 2.9 0 0 1-4.1-4.1l1.2-1.2',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg viewBox="0 0 16 16" width={size} height={size} class="icon" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
