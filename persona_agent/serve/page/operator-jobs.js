// Jobs: what waits in the background, what was given up, and alignments.

import { get, send } from "./api.js";
import { button, el, field, fill, focusOn } from "./dom.js";
import { say } from "./status.js";
import { table } from "./table.js";
import { count, number, time } from "./words.js";

const STATES = { waiting: "Waiting", running: "Running", retry: "To be tried again", dead: "Given up" };
const KINDS = { facts: "Facts", summaries: "Summaries", align: "Alignment" };
const ENDED = { queued: "Waiting", running: "Running", done: "Done", failed: "Failed" };
const MOST = 200;

/** Draw the jobs, or those of the state `asked.state` alone, and the latest alignments. */
export async function showJobs({ root, signal, redraw, asked }) {
  const wanted = asked.state ?? "";
  const [jobs, operations] = await Promise.all([
    get("v1/operator/jobs", { query: { state: wanted || null, limit: MOST }, signal }),
    get("v1/operator/operations", { query: { limit: 20 }, signal }),
  ]);
  const again = async (ids) => {
    const { retried } = await send("POST", "v1/operator/jobs/retry", ids ? { ids } : {});
    await redraw();
    focusOn(document.getElementById("view-title"));
    say(retried === 1 ? "1 job runs again." : `${number(retried)} jobs run again.`);
  };
  const dead = jobs.counts.dead ?? 0;
  fill(
    root,
    el(
      "div",
      { class: "find" },
      chooser(jobs.counts, wanted, async (state) => {
        asked.state = state;
        await redraw();
      }),
      dead > 1 && button(`Run all ${number(dead)} again`, () => again(null), { id: "run-all" }),
    ),
    jobs.results.length ? table("Jobs", columns(again), jobs.results) : nothing(wanted),
    el("h3", { id: "alignments" }, "Latest alignments"),
    operations.results.length
      ? table("Latest alignments", ALIGNMENTS, operations.results)
      : el("p", { class: "empty" }, "Nobody's persona was aligned yet."),
  );
}

function chooser(counts, wanted, choose) {
  const all = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const option = (value, text, number_) =>
    el("option", { value, selected: value === wanted }, `${text} (${number(number_)})`);
  const select = el(
    "select",
    { id: "jobs-state" },
    option("", "All", all),
    Object.entries(STATES).map(([state, text]) => option(state, text, counts[state] ?? 0)),
  );
  select.addEventListener("change", async () => {
    await choose(select.value);
    document.getElementById("jobs-state").focus();
  });
  return field("Show", select);
}

function columns(again) {
  return [
    { head: "Work", cell: (one) => KINDS[one.kind] ?? one.kind },
    { head: "User", cell: (one) => one.user_id, kind: "long" },
    { head: "State", cell: (one) => el("span", { class: one.state === "dead" ? "tag bad" : "tag" }, STATES[one.state]) },
    { head: "Attempts", cell: (one) => number(one.attempts), kind: "number" },
    { head: "Due", cell: (one) => (one.state === "dead" ? "–" : time(one.due)) },
    { head: "What went wrong", cell: (one) => one.error ?? "–", kind: "long" },
    {
      head: "Action",
      cell: (one) =>
        one.state === "dead"
          ? button("Run again", () => again([one.id]), { "aria-label": `Run again for ${one.user_id}` })
          : "–",
    },
  ];
}

const ALIGNMENTS = [
  { head: "User", cell: (one) => one.user_id, kind: "long" },
  { head: "State", cell: (one) => el("span", { class: one.state === "failed" ? "tag bad" : "tag" }, ENDED[one.state]) },
  { head: "Asked for", cell: (one) => time(one.created) },
  { head: "Outcome", cell: outcome, kind: "long" },
];

function outcome(one) {
  if (one.state === "failed") return one.error;
  if (one.state !== "done") {
    return one.progress.round === undefined ? "–" : count(one.progress.round, "round of requests", "rounds of requests");
  }
  const { accepted, version, reason } = one.result;
  return `${accepted ? `Accepted as version ${version}` : "Refused"}: ${reason}`;
}

function nothing(wanted) {
  return el("p", { class: "empty" }, wanted ? "No job is in this state." : "Nothing waits: all work is done.");
}
