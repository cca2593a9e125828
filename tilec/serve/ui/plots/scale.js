// Scales: functions from values to pixels, with their ticks.

export function linear(low, high, from, to) {
  const span = high - low || 1;
  const at = (x) => from + ((x - low) / span) * (to - from);
  at.ticks = (n) => round(low, high, n);
  at.spans = (n) => spans(high, n);
  return at;
}

export function logarithmic(low, high, from, to) {
  const bottom = Math.log(low);
  const span = Math.log(high) - bottom || 1;
  const at = (x) => from + ((Math.log(x) - bottom) / span) * (to - from);
  at.ticks = (n) => steps(low, high, n);
  return at;
}

// Round numbers within a range, about n of them.
function round(low, high, n) {
  const rough = (high - low) / Math.max(n, 1) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200];

// Seconds from 0 that read well as durations, about n of them.
function spans(high, n) {
  if (high < 5) return round(0, high, n);
  const step = STEPS.find((k) => high / k <= n) ?? 86400 * Math.ceil(high / 86400 / n);
  return Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step);
}

const DIGITS = [[1, 2, 3, 4, 5, 6, 8], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]];

// Numbers with few digits within a range: as many as there is room for. A range of less than a
// factor of 3 has round numbers instead.
function steps(low, high, n) {
  if (high / low < 3) return round(low, high, n);
  const from = Math.floor(Math.log10(low));
  const tens = Array.from({ length: Math.ceil(Math.log10(high)) - from + 1 }, (_, i) => from + i);
  const sets = DIGITS.map((digits) =>
    tens
      .flatMap((e) => digits.map((k) => Number((k * 10 ** e).toPrecision(3))))
      .filter((x) => x >= low * 0.999 && x <= high * 1.001),
  );
  const fits = sets.find((set) => set.length <= n + 1);
  if (fits) return fits;
  const every = Math.ceil(sets.at(-1).length / n);
  return sets.at(-1).filter((_, i) => i % every === 0);
}
