"use strict";
// The verdicts of many measurements, as one bar and as a table.

// strip is one bar of all verdicts; its legend is the table of them.
T.strip = (verdicts, by, measured, height) => {
  const bar = T.el("div", {class: "strip", role: "img", "aria-label": verdicts.map((v, i) => `${v.name} ${T.percent(by[i], measured)}`).join(", ")});
  bar.style.height = height + "px";
  verdicts.forEach((v, i) => {
    if (!by[i]) return;
    const part = T.el("span", {title: `${v.name}: ${T.number(by[i])} (${T.percent(by[i], measured)})`}, by[i] / measured > 0.12 ? T.el("span", {}, v.name.replaceAll("_", " ")) : "");
    part.style.flexGrow = by[i];
    part.style.background = T.colour(v.name);
    part.style.color = T.on(v.name);
    bar.append(part);
  });
  return bar;
};

T.legend = (verdicts, measured, choose) => T.el("table", {class: "legend"},
  T.el("thead", {}, T.el("tr", {}, T.el("th", {scope: "col"}, "Verdict"), T.el("th", {scope: "col", class: "right"}, "Targets"), T.el("th", {scope: "col", class: "right"}, "Share"),
    T.el("th", {scope: "col", class: "wide right"}, "95% interval"), T.el("th", {scope: "col", class: "wide"}, "Meaning"))),
  T.el("tbody", {}, verdicts.map((v, i) => T.el("tr", {},
    T.el("th", {scope: "row"}, choose ? T.el("button", {type: "button", class: "link", onclick: () => choose(i), title: "Show these targets"}, T.word(v.name)) : T.word(v.name)),
    T.el("td", {class: "right"}, T.number(v.count)), T.el("td", {class: "right"}, T.percent(v.count, measured)),
    T.el("td", {class: "wide right muted"}, `${(100 * v.low).toFixed(1)} – ${(100 * v.high).toFixed(1)}%`), T.el("td", {class: "wide muted"}, v.meaning)))));
