// Small drawings beside words; they say nothing that the words do not.

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  about: ["M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8z", "M4 21c.8-4.5 4-6 8-6s7.2 1.5 8 6"],
  timeline: ["M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z", "M12 7v5l3.5 2"],
  memories: ["M4 7l8-4 8 4-8 4z", "M4 12l8 4 8-4", "M4 17l8 4 8-4"],
  "for-you": ["M12 3.5l2.6 5.4 5.9.8-4.3 4.1 1 5.9-5.2-2.8-5.2 2.8 1-5.9-4.3-4.1 5.9-.8z"],
  chat: ["M4 5h16v11H10l-5 4v-4H4z", "M8 9h8M8 12h5"],
  data: ["M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6z", "M9 12l2.2 2.200L15.5 10"],
  operators: ["M4 20V10M10 20V4M16 20v-7M22 20H2"],
  lock: ["M6 11h12v9H6z", "M8.5 11V8a3.5 3.5 0 0 1 7 0v3"],
  unlock: ["M6 11h12v9H6z", "M8.5 11V8a3.5 3.5 0 0 1 6.8-1.2"],
};

/** Return a drawing that screen readers pass over. */
export function icon(name) {
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("viewBox", "0 0 24 24");
  made.setAttribute("class", "icon");
  made.setAttribute("aria-hidden", "true");
  for (const d of PATHS[name] ?? []) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    made.append(path);
  }
  return made;
}
