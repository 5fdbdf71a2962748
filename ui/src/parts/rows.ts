// Where rows of different heights stand.

/** The top of each row, and the bottom of the last. */
export function topsOf(count: number, height: (i: number) => number): Float64Array {
  const tops = new Float64Array(count + 1);
  for (let i = 0; i < count; i++) tops[i + 1] = (tops[i] ?? 0) + height(i);
  return tops;
}

/** The row at `y`: the first one for what lies above, the last one for what lies below. */
export function rowAt(tops: Float64Array, y: number): number {
  let [low, high] = [0, Math.max(0, tops.length - 2)];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((tops[middle] ?? 0) <= y) low = middle;
    else high = middle - 1;
  }
  return low;
}
