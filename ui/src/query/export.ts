// Results as files.
import type { HistogramSample, Labels, MatrixItem, Sample, VectorItem } from '../api/shapes';
import type { QueryAnswer } from './asking';

/** One line for each sample: time, value, then the labels that occur. */
export function csv(items: (VectorItem | MatrixItem)[]): string {
  const names = [...new Set(items.flatMap((item) => Object.keys(item.metric)))].sort();
  const head = ['timestamp', 'value', ...names];
  const lines = items.flatMap((item) => samplesOf(item).map(([ts, value]) => line(ts, value, item.metric, names)));
  return [head.map(cell).join(','), ...lines].join('\r\n') + '\r\n';
}

function samplesOf(item: VectorItem | MatrixItem): Sample[] {
  const text = ([ts, h]: HistogramSample): Sample => [ts, JSON.stringify(h)];
  const one = item as VectorItem;
  const many = item as MatrixItem;
  return [
    ...(one.value ? [one.value] : []),
    ...(one.histogram ? [text(one.histogram)] : []),
    ...(many.values ?? []),
    ...(many.histograms ?? []).map(text),
  ];
}

function line(ts: number, value: string, metric: Labels, names: string[]): string {
  const time = new Date(ts * 1000).toISOString();
  return [time, value, ...names.map((name) => metric[name] ?? '')].map(cell).join(',');
}

/** Quoted where it must be; a formula of a spreadsheet is only text. */
function cell(text: string): string {
  const safe = /^[=@\t\r]|^[+-](?![\d.]|Inf)/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function save(name: string, blob: Blob): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The download has its own hold on the data.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function fileName(ending: string): string {
  return `query-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}.${ending}`;
}

export function saveJson(answer: QueryAnswer): void {
  save(fileName('json'), answer.raw);
}

export async function saveCsv(answer: QueryAnswer): Promise<void> {
  // From what came: the texts of the numbers are exact.
  const { data } = JSON.parse(await answer.raw.text()) as {
    data: { resultType: string; result: (VectorItem | MatrixItem)[] | Sample };
  };
  const scalar = data.resultType === 'scalar' || data.resultType === 'string';
  const items = scalar ? [{ metric: {}, value: data.result as Sample }] : (data.result as (VectorItem | MatrixItem)[]);
  save(fileName('csv'), new Blob([csv(items)], { type: 'text/csv' }));
}
