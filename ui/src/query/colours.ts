// A colour for each series: hues by the golden angle, so that neighbours differ most; lightness in
// two steps; the same series number has the same hue in both themes.
export function colour(i: number, dark: boolean, alpha = 1): string {
  const hue = (196 + i * 137.508) % 360;
  const step = Math.floor(i / 7) % 2;
  const light = dark ? 0.78 - 0.1 * step : 0.57 - 0.12 * step;
  const chroma = dark ? 0.12 : 0.13;
  return `oklch(${light} ${chroma} ${hue.toFixed(1)} / ${alpha})`;
}
