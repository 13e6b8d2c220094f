// For you: what the recommender suggests, and why.

import { send } from "./api.js";
import { button, el, field, fill } from "./dom.js";
import { server, session } from "./session.js";
import { murmur } from "./status.js";
import { count, number, signed } from "./words.js";

const HOW_MANY = 10;
const KINDS = {
  item: "You chose",
  popularity: "Many people chose it",
  persona: "A side of you",
  path: "A path",
};

/** Show recommendations, or that this server makes none. */
export async function show({ root, signal }) {
  if (!server.recommends) {
    fill(
      root,
      el(
        "div",
        { class: "empty", id: "no-recommender" },
        el("strong", {}, "This server has no recommender"),
        el(
          "p",
          {},
          "Its operator can give it one: a trained model and a table of its items (recommend.folder and recommend.items). Everything else works without.",
        ),
      ),
    );
    return;
  }
  const list = el("div", { id: "offers" });
  const view = { list, signal, given: {} };
  fill(
    root,
    el(
      "p",
      { class: "lead" },
      `Suggestions from what your memory says you like. Each ${server.noun} says why it is here.`,
    ),
    wishes(view),
    list,
  );
  await load(view);
}

function wishes(view) {
  const genres = el("input", { type: "text", id: "wish-genres", autocomplete: "off", placeholder: "Any" });
  const from = el("input", { type: "number", id: "wish-from", inputmode: "numeric" });
  const to = el("input", { type: "number", id: "wish-to", inputmode: "numeric" });
  const form = el(
    "form",
    { class: "card", id: "wishes", "aria-label": "What it must be", novalidate: true },
    el(
      "div",
      { class: "row" },
      el("div", { class: "grow" }, field("Genres, by commas", genres)),
      el("div", { class: "year" }, field("From year", from)),
      el("div", { class: "year" }, field("To year", to)),
      el("button", { type: "submit", class: "button" }, "Suggest"),
    ),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const year = (one) => (one.value.trim() ? Number(one.value) : null);
    const must = {
      genres: genres.value
        .split(",")
        .map((one) => one.trim())
        .filter(Boolean),
      from_year: year(from),
      to_year: year(to),
    };
    view.given = must.genres.length || must.from_year !== null || must.to_year !== null ? { must } : {};
    await load(view);
  });
  return form;
}

async function load(view) {
  const body = { user_id: session.user, k: HOW_MANY, ...view.given };
  const { results } = await send("POST", "v1/recommendations", body, { signal: view.signal });
  if (!results.length) {
    fill(
      view.list,
      el("p", { class: "empty" }, "Nothing fits: everything that does is known to you already."),
    );
    return;
  }
  fill(
    view.list,
    el(
      "ol",
      { class: "cards" },
      results.map((one) => offer(view, one)),
    ),
  );
  murmur(`${count(results.length, "suggestion")}, best first.`);
}

function offer(view, one) {
  const inside = el("div", { class: "below", hidden: true });
  const why = button("How it was found", () => explain(view, one, why, inside), {
    kind: "quiet",
    "aria-expanded": "false",
  });
  return el(
    "li",
    { class: "card", "data-item": one.item },
    el("h2", { class: "words" }, one.title || one.item),
    el(
      "div",
      { class: "meta" },
      one.year > 0 && el("span", {}, one.year),
      one.genres.map((genre) => el("span", { class: "tag" }, genre)),
    ),
    el("p", { class: "words" }, one.why),
    el("div", { class: "row tight actions" }, why),
    inside,
  );
}

async function explain(view, one, why, inside) {
  inside.hidden = !inside.hidden;
  why.setAttribute("aria-expanded", String(!inside.hidden));
  if (inside.hidden || inside.childElementCount) return;
  fill(inside, el("p", { class: "quiet" }, "Looking…"));
  try {
    const told = await send(
      "POST",
      "v1/recommendations/explain",
      { user_id: session.user, item: one.item },
      { signal: view.signal },
    );
    fill(
      inside,
      el("p", { class: "quiet small" }, `Score ${number(told.score)}, made of:`),
      el("ol", { class: "cards reasons" }, told.reasons.map(reason)),
    );
  } catch (error) {
    fill(inside, el("p", { class: "error" }, error.message));
  }
}

function reason(given) {
  return el(
    "li",
    {},
    el("span", { class: "tag" }, KINDS[given.kind] ?? given.kind),
    " ",
    el("span", { class: "words" }, told(given)),
    el("span", { class: "quiet small" }, ` (${signed(given.weight)})`),
  );
}

function told(given) {
  if (given.kind === "popularity") return count(given.weight, "person", "people");
  if (given.kind !== "path") return given.titles.join(", ");
  return given.titles
    .map((title, at) =>
      at === 0 ? title : ` → ${given.relations[at - 1] ? `${given.relations[at - 1]} → ` : ""}${title}`,
    )
    .join("");
}
