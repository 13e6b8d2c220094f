// How data is put into words: dates, numbers, where a line or a version comes from.

import { el } from "./dom.js";

const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

const LINE_ORIGINS = {
  user: "written by you",
  statistics: "counted in your history",
  summary: "summed up from your history",
  miner: "found in your history",
  gradient: "learned from what did not fit",
  recommender: "from what you like",
  fact: "from something you said",
  adapter: "from a model trained on your history",
};

const VERSION_ORIGINS = {
  empty: "Nothing stored yet",
  start: "The first version, from your history",
  alignment: "Aligned with your history",
  user: "Changed by you",
  rollback: "Taken back by you",
};

/** Return where a line comes from. */
export function lineOrigin(line) {
  return LINE_ORIGINS[line.origin] ?? line.origin;
}

/** Return how a version came to be. */
export function versionOrigin(persona) {
  return VERSION_ORIGINS[persona.origin] ?? persona.origin;
}

/** Return a time element that shows the moment, or the day alone. */
export function time(iso, { day = false } = {}) {
  const at = new Date(iso);
  return el("time", { datetime: iso }, (day ? DAY : MOMENT).format(at));
}

/** Return a number with at most `digits` after the point. */
export function number(value, digits = 3) {
  return value.toLocaleString("en-GB", { maximumFractionDigits: digits });
}

/** Return a number with its sign, where it is not zero. */
export function signed(value, digits = 3) {
  return value.toLocaleString("en-GB", { maximumFractionDigits: digits, signDisplay: "exceptZero" });
}

/** Return a share as percent. */
export function percent(share) {
  return `${Math.round(100 * share)}%`;
}

/**
 * Return the gate's metric in words, before and after: where numbers are predicted it is minus the
 * distance from the right one, else the share that was predicted right.
 */
export function metric(before, after) {
  if (before < 0 || after < 0) {
    return {
      name: "Off by, on average",
      before: number(-before),
      after: number(-after),
      change: signed(before - after),
    };
  }
  return {
    name: "Predicted right",
    before: percent(before),
    after: percent(after),
    change: `${signed(100 * (after - before), 0)} points`,
  };
}

/** Return a count with its noun: "1 memory", "2 memories". */
export function count(value, one, many = `${one}s`) {
  return `${value.toLocaleString("en-GB")} ${value === 1 ? one : many}`;
}
