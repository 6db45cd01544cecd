// Our few icons, drawn on a 16 × 16 grid; always beside a word or in a named button.
const PATHS = {
  ok: "M3 8.5l3.2 3.2L13 4.8",
  running: "M8 2.5a5.5 5.5 0 1 1-5.5 5.5",
  warn: "M8 2.2L14.5 13.5H1.5zM8 6.4v3.4M8 11.6v.3",
  failed: "M4 4l8 8M12 4l-8 8",
  paused: "M5.5 3.5v9M10.5 3.5v9",
  unknown: "M5.8 6a2.2 2.2 0 1 1 3.3 1.9C8.3 8.4 8 8.8 8 9.7M8 12.2v.3",
  waiting: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11M8 5v3.3l2.2 1.4",
  info: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11M8 7.4v3.4M8 5v.3",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  copy: "M5.5 5.5h8v8h-8zM2.5 10.5v-8h8",
  download: "M8 2.5v7.5M4.8 7l3.2 3.2L11.2 7M2.5 13.5h11",
  again: "M13 8a5 5 0 1 1-1.5-3.6M13 2.5v3h-3",
  stop: "M4 4h8v8H4z",
  send: "M8 13.5v-11M3.5 7L8 2.5 12.5 7",
  plus: "M8 3v10M3 8h10",
  trash: "M3 4.5h10M6 4.5v-2h4v2M4.5 4.5l.6 9h5.8l.6-9",
  history: "M2.5 8a5.5 5.5 0 1 0 1.6-3.9M2.5 2.5v3h3M8 5v3.3l2.2 1.4",
  light: "M8 5a3 3 0 1 0 0 6a3 3 0 0 0 0-6M8 1.2v1.6M8 13.2v1.6M1.2 8h1.6M13.2 8h1.6M3.2 3.2l1.1 1.1M11.7 11.7l1.1 1.1M3.2 12.8l1.1-1.1M11.7 4.3l1.1-1.1",
  dark: "M13.3 9.6A5.6 5.6 0 0 1 6.4 2.7a5.6 5.6 0 1 0 6.9 6.9z",
  system: "M2 3h12v8H2zM6 13.5h4",
  right: "M6 3.5L10.5 8 6 12.5",
  down: "M3.5 6L8 10.5 12.5 6",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className={`icon icon-${name}`} viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
