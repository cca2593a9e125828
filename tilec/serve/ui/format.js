// Numbers as people read them.

const TIMES = [
  [1e3, "s"],
  [1, "ms"],
  [1e-3, "µs"],
  [1e-6, "ns"],
];
const PREFIXES = [
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
  [1, ""],
];

function digits(x) {
  const size = Math.abs(x);
  return x.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

// 0.0123 -> "12.3 µs"
export function time(ms) {
  if (ms === null || ms === undefined) return "–";
  const [unit, name] = TIMES.find(([u]) => ms >= u) ?? TIMES.at(-1);
  return `${digits(ms / unit)} ${name}`;
}

// As `time`, without zeros that say nothing: 30.0 ms -> "30 ms"
export function shortTime(ms) {
  return trimmed(time(ms));
}

function trimmed(text) {
  return text.replace(/(\.\d*?)0+ /, "$1 ").replace(". ", " ");
}

// As `prefixed`, without zeros that say nothing.
export function shortPrefixed(x) {
  return trimmed(prefixed(x)).trim();
}

// 1.2e12 -> "1.20 T"
export function prefixed(x) {
  const [unit, name] = PREFIXES.find(([u]) => x >= u) ?? [1, ""];
  return `${digits(x / unit)} ${name}`;
}

// Seconds: 75 -> "1 min 15 s"
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const [days, hours, minutes] = [whole / 86400, (whole % 86400) / 3600, (whole % 3600) / 60];
  if (days >= 1) return `${Math.floor(days)} d ${Math.floor(hours)} h`;
  const rest = (n, unit) => (n ? ` ${n} ${unit}` : "");
  if (hours >= 1) return `${Math.floor(hours)} h${rest(Math.floor(minutes), "min")}`;
  return `${Math.floor(minutes)} min${rest(whole % 60, "s")}`;
}

export function ago(seconds) {
  return seconds < 2 ? "now" : `${duration(seconds)} ago`;
}

// Seconds since 1970 as local time.
export function when(seconds) {
  const d = new Date(seconds * 1000);
  const two = (n) => String(n).padStart(2, "0");
  return (
    `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ` +
    `${two(d.getHours())}:${two(d.getMinutes())}`
  );
}

export function percent(x) {
  const p = 100 * x;
  return `${p >= 10 || p === 0 ? p.toFixed(0) : p >= 1 ? p.toFixed(1) : p.toFixed(2)}%`;
}

// A config or a shape: {m: 1, k: 2} -> "k=2, m=1"
export function config(map) {
  return Object.keys(map)
    .sort()
    .map((name) => `${name}=${map[name]}`)
    .join(", ");
}

export function median(numbers) {
  if (!numbers?.length) return null;
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

// The standard deviation over the mean; null where there are too few.
export function variation(numbers) {
  if (!numbers || numbers.length < 3) return null;
  const mean = numbers.reduce((a, b) => a + b, 0) / numbers.length;
  const squares = numbers.reduce((a, b) => a + (b - mean) ** 2, 0);
  return Math.sqrt(squares / (numbers.length - 1)) / mean;
}

// The time of a trial of the search: the median of its samples.
export function timeOf(trial) {
  return trial.state === "done" ? median(trial.samples_ms[0]) : null;
}
