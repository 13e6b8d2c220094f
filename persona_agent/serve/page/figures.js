// The server's figures, as Prometheus reads them: text in, sums and quantiles out.

const LINE = /^(?<name>[A-Za-z_:][\w:]*)(?:\{(?<labels>.*)\})? (?<value>\S+)/;
const LABEL = /(?<name>\w+)="(?<value>(?:[^"\\]|\\.)*)"/g;

/** Return the figures of a text: a name, labels and a value each. Comments are left out. */
export function read(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const groups = LINE.exec(line)?.groups;
    if (!groups) continue;
    const labels = {};
    for (const one of (groups.labels ?? "").matchAll(LABEL)) labels[one.groups.name] = one.groups.value;
    const value = groups.value === "+Inf" ? Infinity : Number(groups.value);
    found.push({ name: groups.name, labels, value });
  }
  return found;
}

/** Return the sum of the figures of a name whose labels `fits`. */
export function total(figures, name, fits = () => true) {
  return figures
    .filter((one) => one.name === name && fits(one.labels))
    .reduce((sum, one) => sum + one.value, 0);
}

/** Return the bucket's bound under which a share of a histogram lies; null where it is empty. */
export function within(figures, name, share) {
  const counts = new Map();
  for (const one of figures) {
    if (one.name !== `${name}_bucket`) continue;
    const bound = one.labels.le === "+Inf" ? Infinity : Number(one.labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + one.value);
  }
  const all = counts.get(Infinity) ?? 0;
  if (!all) return null;
  return [...counts].sort(([a], [b]) => a - b).find(([, count]) => count >= share * all)[0];
}
