"use strict";
// What every page uses: elements, numbers, verdicts. Strings from a dataset
// enter the page through here, as text and never as markup.
const T = {};

// el makes an element: attributes by name, "on" + event for listeners, the rest
// are children, strings as text.
T.el = (tag, attrs, ...children) => T.fill(document.createElement(tag), attrs, children);

T.svg = (tag, attrs, ...children) => T.fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, children);

T.fill = (e, attrs, children) => {
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else e.setAttribute(k, v === true ? "" : v);
  }
  e.append(...children.flat(Infinity).filter((c) => c !== undefined && c !== null && c !== false));
  return e;
};

T.number = (n) => n.toLocaleString("en-US");

// percent never calls some none, or all what is not.
T.percent = (n, of) => {
  if (!of) return "–";
  const p = (100 * n) / of;
  if (n > 0 && p < 0.05) return "<0.1%";
  if (n < of && p > 99.95) return ">99.9%";
  return p.toFixed(1) + "%";
};

// interval is the ends of the 95% interval of a share.
T.interval = (part) => `${(100 * part.low).toFixed(1)} – ${(100 * part.high).toFixed(1)}%`;

T.ms = (us) => {
  const ms = us / 1000, a = Math.abs(ms);
  if (a >= 10000) return (ms / 1000).toFixed(1) + " s";
  return ms.toFixed(a >= 100 ? 0 : a >= 10 ? 1 : 2) + " ms";
};

T.plural = (n, what) => `${T.number(n)} ${what}${n === 1 ? "" : "s"}`;

T.when = (t) => new Date(t).toISOString().slice(0, 16).replace("T", " ") + " UTC";

// Colours are of the style sheet, which has a name for each verdict it knows.
const painted = new Set(["supported", "cookie_only", "data_truncated", "cookie_unstable", "unsupported", "option_dropped", "data_dropped", "reset",
  "flow_blackholed", "blackholed_after_handshake", "client_blocked", "offline", "inconclusive"]);
T.colour = (verdict) => `var(--v-${painted.has(verdict) ? verdict : "unknown"})`;
T.on = (verdict) => `var(--on-${painted.has(verdict) ? verdict : "unknown"})`;

// word is a verdict for people: its name, with the colour beside it.
T.word = (verdict) => {
  const swatch = T.el("span", {class: "swatch", "aria-hidden": "true"});
  swatch.style.background = T.colour(verdict);
  return T.el("span", {class: "verdict"}, swatch, verdict.replaceAll("_", " "));
};

// select is a labelled choice of one.
T.select = (label, options, onchange) => {
  const s = T.el("select", {onchange: () => onchange(s.value)}, options.map(([value, text]) => T.el("option", {value}, text)));
  return {value: s, node: T.el("label", {class: "choice"}, T.el("span", {}, label), s)};
};

// inside is the width there is within an element.
T.inside = (e) => {
  const s = getComputedStyle(e);
  return Math.floor(e.clientWidth - parseFloat(s.paddingLeft) - parseFloat(s.paddingRight));
};

// later runs f once, when nothing has called it for ms milliseconds.
T.later = (ms, f) => {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), ms);
  };
};
