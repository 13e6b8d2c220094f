// The operators' section: a view for each question that somebody who runs the server has.

import { button, el, fill } from "./dom.js";
import { showCost } from "./operator-cost.js";
import { showHealth } from "./operator-health.js";
import { showJobs } from "./operator-jobs.js";
import { showKeys } from "./operator-keys.js";
import { showUsers } from "./operator-users.js";
import { murmur } from "./status.js";

/**
 * A view draws itself into `root`, and again whenever it is to be fresh: `redraw` asks for that.
 * `asked` is what it was asked to show, kept from one drawing to the next.
 */
const VIEWS = [
  { name: "health", title: "Health", draw: showHealth },
  { name: "users", title: "Users", draw: showUsers },
  { name: "jobs", title: "Jobs", draw: showJobs },
  { name: "cost", title: "Cost", draw: showCost },
  { name: "keys", title: "Keys", draw: showKeys },
];
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** Show the view that the address names, health without one. */
export async function show({ root, part, signal }) {
  const view = VIEWS.find((one) => one.name === part) ?? VIEWS[0];
  const body = el("div", { class: "view", id: `view-${view.name}` });
  const asOf = el("span", { class: "quiet", id: "as-of" });
  const asked = {};
  const redraw = async () => {
    await view.draw({ root: body, signal, redraw, asked });
    asOf.textContent = `As of ${CLOCK.format(new Date())}`;
  };
  const refresh = button("Refresh", async () => {
    await redraw();
    murmur(`${view.title}: fresh figures.`);
  }, { id: "refresh" });
  fill(
    root,
    el(
      "nav",
      { class: "tabs", "aria-label": "Operators' views" },
      el("ul", {}, VIEWS.map((one) => el("li", {}, link(one, one === view)))),
    ),
    el(
      "div",
      { class: "view-head" },
      el("h2", { id: "view-title" }, view.title),
      el("div", { class: "row" }, asOf, refresh),
    ),
    body,
  );
  await redraw();
}

function link(view, current) {
  return el("a", { href: `#operators/${view.name}`, "aria-current": current && "page" }, view.title);
}
