// Timeline: the versions of the persona, what made each, what it changed, and the way back.

import { get, mine, send } from "./api.js";
import { changes } from "./changes.js";
import { consent } from "./dialog.js";
import { button, el, field, fill, focusOn } from "./dom.js";
import { say } from "./status.js";
import { count, metric, number, signed, time, versionOrigin } from "./words.js";

const PAGE = 20;

/** Show the versions, latest first. */
export async function show({ root, signal }) {
  const known = await get(mine(), { signal });
  if (!known.persona_version) {
    fill(
      root,
      el(
        "div",
        { class: "empty", id: "no-versions" },
        el("strong", {}, "There are no versions yet"),
        el("p", {}, "Your first change, or the first alignment, makes one."),
      ),
    );
    return;
  }
  const view = { root, signal, versions: [], next: null };
  await more(view);
  draw(view);
}

async function more(view) {
  const page = await get(mine("/persona/versions"), {
    query: { limit: PAGE, cursor: view.next },
    signal: view.signal,
  });
  view.versions.push(...page.results);
  view.next = page.next;
}

function draw(view) {
  const latest = view.versions[0].version;
  fill(
    view.root,
    el(
      "p",
      { class: "lead" },
      "Nothing is lost: each change of your persona, by you or by an alignment, is a version. Compare any two, and go back to any.",
    ),
    view.versions.length > 1 && comparing(view),
    el(
      "section",
      { class: "part", "aria-labelledby": "versions-heading" },
      el("h2", { id: "versions-heading" }, "Versions"),
      el(
        "ol",
        { class: "versions", id: "versions", reversed: true },
        view.versions.map((one) => card(view, one, latest)),
      ),
      view.next !== null &&
        el(
          "div",
          {},
          button("Show earlier versions", () => earlier(view), { id: "more-versions" }),
        ),
    ),
  );
}

async function earlier(view) {
  const at = view.versions.length;
  await more(view);
  draw(view);
  focusOn(view.root.querySelectorAll("#versions > li h3")[at]);
}

function card(view, persona, latest) {
  const isLatest = persona.version === latest;
  const heading = el("h3", {}, `Version ${persona.version}`);
  return el(
    "li",
    { class: "card", "data-version": persona.version },
    el(
      "div",
      { class: "row ends" },
      el("div", { class: "row" }, heading, isLatest && el("span", { class: "tag accent" }, "In use")),
      !isLatest &&
        button("Go back to this", () => back(view, persona), {
          kind: "quiet",
          "aria-label": `Go back to version ${persona.version}`,
        }),
    ),
    el("p", {}, versionOrigin(persona), persona.note && el("span", { class: "quiet" }, `: ${persona.note}`)),
    el(
      "div",
      { class: "meta" },
      persona.created && time(persona.created),
      el("span", {}, count(persona.lines.length, "line")),
    ),
    scores(persona.scores),
    whatChanged(view, persona),
  );
}

function scores(given) {
  if (given.metric_after === undefined) return null;
  const right = metric(given.metric_before, given.metric_after);
  return el(
    "div",
    { class: "scores" },
    el("span", { class: "tag" }, `${right.name}: ${right.before} → ${right.after}`),
    given.loglik_after !== undefined &&
      el(
        "span",
        { class: "tag" },
        `Log-likelihood: ${number(given.loglik_before)} → ${number(given.loglik_after)}`,
      ),
    given.gain !== undefined &&
      el(
        "span",
        { class: "tag good" },
        `Gain ${signed(given.gain)} over a margin of ${number(given.margin)}`,
      ),
    given.held_out !== undefined &&
      el("span", { class: "tag" }, `On ${count(given.held_out, "unseen interaction")}`),
    given.tried !== undefined && el("span", { class: "tag" }, `${count(given.tried, "proposal")} tried`),
  );
}

function whatChanged(view, persona) {
  const inside = el("div", {}, el("p", { class: "quiet" }, "Looking…"));
  const found = el("details", {}, el("summary", {}, "What changed"), inside);
  found.addEventListener("toggle", async () => {
    if (!found.open || inside.dataset.done) return;
    inside.dataset.done = "yes";
    try {
      fill(
        inside,
        changes(await get(mine("/persona/diff"), { query: { new: persona.version }, signal: view.signal })),
      );
    } catch (error) {
      delete inside.dataset.done;
      fill(inside, el("p", { class: "error" }, error.message));
    }
  });
  return found;
}

function comparing(view) {
  const pick = (id, chosen) =>
    el(
      "select",
      { id },
      view.versions.map((one, place) =>
        el("option", { value: one.version, selected: place === chosen }, `Version ${one.version}`),
      ),
    );
  const old = pick("compare-old", 1);
  const fresh = pick("compare-new", 0);
  const told = el("div", { id: "comparison", "aria-live": "polite" });
  const compare = button(
    "Compare",
    async () => {
      const query = { old: old.value, new: fresh.value };
      const found = await get(mine("/persona/diff"), { query, signal: view.signal });
      fill(
        told,
        el("p", { class: "quiet" }, `From version ${found.old_version} to version ${found.new_version}:`),
        changes(found),
      );
    },
    { id: "compare" },
  );
  return el(
    "section",
    { class: "card", "aria-labelledby": "compare-heading" },
    el("h2", { id: "compare-heading" }, "Compare"),
    el(
      "div",
      { class: "row compare" },
      el("div", { class: "grow" }, field("From", old)),
      el("div", { class: "grow" }, field("To", fresh)),
      compare,
    ),
    told,
  );
}

async function back(view, persona) {
  const yes = await consent({
    title: `Go back to version ${persona.version}?`,
    text: [
      "Its lines become a new version, which is in use from then on. The present one stays in the timeline.",
      persona.lines.length
        ? el(
            "ul",
            { class: "bullets" },
            persona.lines.map((one) => el("li", { class: "words" }, one.text)),
          )
        : "It has no lines.",
    ],
    action: "Go back",
  });
  if (!yes) return;
  await send("POST", mine("/persona/rollback"), { version: persona.version });
  view.versions = [];
  view.next = null;
  await more(view);
  draw(view);
  say(`The lines of version ${persona.version} are in use again, as version ${view.versions[0].version}.`);
  focusOn(view.root.querySelector("#versions-heading"));
}
