"use strict";
// The report: what the numbers have becomes sections, what they lack does not
// appear.
(async () => {
  const n = T.numbers();
  const $ = (id) => document.getElementById(id);
  $("title").textContent = n.title;
  const share = (pick) => n.verdicts.reduce((s, v) => s + (pick(v) ? v.count : 0), 0);
  const probes = new Set(n.surveys.flatMap((s) => s.probes.map((p) => p.name)));
  $("facts").textContent = [
    n.surveys.length > 1 ? T.plural(n.surveys.length, "survey") : "", `${T.plural(n.measured, "measurement")}`,
    T.plural(probes.size || n.shares[0].groups.length, "probe"), "plan " + [...new Set(n.surveys.map((s) => s.plan))].join(", "),
    n.surveys.length ? T.when(n.surveys[0].created) : "", n.surveys.map((s) => s.state).every((s) => s === "done") ? "" : "not finished: " + n.surveys.find((s) => s.state !== "done").state,
  ].filter(Boolean).join(" · ");

  const main = $("main"), nav = $("nav");
  const section = (id, title, ...children) => {
    nav.append(T.el("a", {href: "#" + id}, title));
    const s = T.el("section", {id, tabindex: "-1"}, T.el("h2", {}, title), ...children);
    main.append(s);
    return s;
  };

  $("loading").remove();
  let targets;
  const headline = (count, what, kind, beside) => T.el("div", {class: "tile " + kind}, T.el("span", {class: "big"}, T.percent(count, n.measured)), T.el("span", {}, what), T.el("span", {class: "muted"}, T.number(count) + (beside ?? "")));
  section("summary", "Summary",
    n.measured === 0 ? T.el("p", {}, "No target was measured.") : T.el("div", {class: "tiles"},
      headline(share((v) => v.name === "supported"), "support Fast Open", "good"),
      headline(n.fault.count, "have a fault", "bad", ` · noise ${T.percent(n.transient.count, n.measured)}`),
      headline(share((v) => v.name === "unsupported"), "do not offer it", "plain"),
      headline(share((v) => v.name === "offline"), "offline", "plain"),
      headline(share((v) => v.name === "inconclusive"), "inconclusive", "plain")),
    n.measured > 0 && T.strip(n.verdicts, n.by, n.measured, 34),
    n.measured > 0 && T.legend(n.verdicts, n.measured, (i) => {
      targets?.filter(i);
      location.hash = "targets";
      $("targets").focus();
    }),
    n.refused + n.interrupted ? T.el("p", {class: "muted"}, `Besides: ${T.number(n.refused)} refused by a probe's policy (nothing was sent), ${T.number(n.interrupted)} started and never finished.`) : "",
    n.fault.count ? T.el("p", {class: "muted noise"}, `Noise: in ${T.percent(n.transient.count, n.measured)} of the measurements a plain connection failed where Fast Open worked, which only chance does. A share of faults that is not above it says nothing.`) : "",
    n.attention.length ? T.el("div", {class: "attention"}, T.el("h3", {}, "Needs attention"), T.el("ul", {}, n.attention.map((a) => T.el("li", {}, a.text)))) : "");

  const blamed = n.targets.blame.some((b) => b.count) || n.targets.broken_vantages.length;
  if (blamed) section("blame", "Who is to blame", T.blame(n, (name) => {
    targets?.search(name);
    $("targets").scrollIntoView();
    $("search").focus();
  }));
  if (n.measured) section("shares", "Verdicts by group", n.shares.filter((s) => s.groups.length).map((s) => T.bars(n, s).node));
  if (n.measured && n.heat.length) section("heat", "Probes and targets", T.heat(n).node);
  if (n.saved.length) section("saved", "Time saved", T.cdf(n).node);
  if (n.sizes.length) section("sizes", "Size of the SYN's data", T.sizes(n).node);
  if (n.mesh.length) section("mesh", "Mesh", T.mesh(n));

  const k = n.kept, t = await T.table();
  const thin = k.rows < k.of || t.block.some((b, i) => b < 0 && t.made[i] > 0);
  if (k.of) $("kept").textContent = thin
    ? `Of ${T.plural(k.of, "measurement")} this file lists ${T.number(k.rows)} and holds the attempts of ${T.number(k.full)}: ` +
      k.class.map((c) => `${c.name}, ${T.number(c.rows)} listed and ${T.number(c.full)} with attempts of ${T.number(c.of)}`).join("; ") + ". What is listed or held in part is a random sample. Every number above the table is of all."
    : `All ${T.plural(k.of, "measurement")} are in this file, with their attempts.`;

  const dialog = T.dialog(n, t);
  targets = T.targets(n, t, dialog);
  if (t.n) section("targets", "Targets", thin ? T.el("p", {class: "muted"}, `${k.rows < k.of ? `A sample: ${T.number(k.rows)} of ${T.plural(k.of, "measurement")}. ` : ""}Attempts are here for everything with a fault or in doubt that fits, and for a sample of the rest; * marks those without. See the end of the page.`) : "", targets.node);
  document.body.append(dialog.node);
  const link = () => {
    const m = location.hash.match(/^#m(\d+)$/);
    if (m && Number(m[1]) < t.n) targets.openRow(Number(m[1]));
  };
  link();
  window.addEventListener("hashchange", link);
  document.documentElement.dataset.ready = "yes";
})().catch((e) => {
  document.getElementById("main").prepend(T.el("p", {role: "alert"}, "This page could not draw itself: " + e.message + ". It needs a browser of 2023 or later."));
  document.documentElement.dataset.ready = "failed";
});
