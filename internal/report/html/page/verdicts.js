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
  T.el("thead", {}, T.el("tr", {}, T.el("th", {scope: "col"}, "Verdict"), T.el("th", {scope: "col", class: "right"}, "Measured"), T.el("th", {scope: "col", class: "right"}, "Share"),
    T.el("th", {scope: "col", class: "wide right"}, "95% interval"), T.el("th", {scope: "col", class: "wide"}, "Meaning"))),
  T.el("tbody", {}, verdicts.map((v, i) => T.el("tr", {},
    T.el("th", {scope: "row"}, choose ? T.el("button", {type: "button", class: "link", onclick: () => choose(i), title: "Show these targets"}, T.word(v.name)) : T.word(v.name)),
    T.el("td", {class: "right"}, T.number(v.count)), T.el("td", {class: "right"}, T.percent(v.count, measured)),
    T.el("td", {class: "wide right muted"}, T.interval(v)), T.el("td", {class: "wide muted"}, v.meaning)))));

// blame is what all that was seen of each target says together.
T.blame = (n, look) => {
  const t = n.targets;
  const counts = (title, list, words) => T.el("div", {}, T.el("h3", {}, title), T.el("table", {class: "legend"}, T.el("tbody", {}, list.filter((b) => b.count).map((b) => T.el("tr", {},
    T.el("th", {scope: "row"}, b.name.replaceAll("_", " ")), T.el("td", {class: "right"}, T.number(b.count)), T.el("td", {class: "right"}, T.percent(b.count, t.n)), T.el("td", {class: "wide muted"}, words[b.name] || ""))))));
  return T.el("div", {},
    T.el("p", {class: "muted"}, `Of ${T.plural(t.n, "target")}, by what all probes and repeats say of each together. One observation never blames a target or a path.`),
    t.broken_vantages.map((b) => T.el("p", {class: "trouble"}, `Probe ${b.probe} sees ${b.verdict.replaceAll("_", " ")} everywhere: at ${T.number(b.count)} of ${T.plural(b.of, "target")} where others see ${b.others.replaceAll("_", " ")}. That is of its own network, and charged to no target.`)),
    T.el("div", {class: "halves"},
      counts("What is broken is due to", t.blame, {target: "all others agree on one fault", vantage: "only a probe with the fault everywhere sees it", path: "some probes see it, some get further", unknown: "too little was seen to tell"}),
      counts("Seen again", t.stability, {stable: "the same from everywhere", unstable: "not always the same from one place", path_dependent: "not the same from every place", once: "seen once only", not_seen: "nothing that says anything"})),
    t.examples.length > 0 && T.el("details", {class: "examples"}, T.el("summary", {}, "Examples, and what they stand on"),
      T.el("ul", {}, t.examples.map((x) => T.el("li", {},
        x.hostname || x.address ? T.el("button", {type: "button", class: "link", onclick: () => look(x.hostname || x.address)}, `${x.hostname || x.address}, port ${x.port}`) : `item ${x.item}`, ` ${x.blame}: `,
        x.seen.filter((o) => o.counts).map((o, i) => [i ? ", " : "", T.el(o.wrong ? "strong" : "span", {}, `${n.surveys.length > 1 ? o.dataset + " " : ""}${o.probe} ${o.verdict.replaceAll("_", " ")}`)])))),
      T.el("p", {class: "muted"}, "Bold is what the blame stands on. All targets with theirs: controller report --targets.")));
};
