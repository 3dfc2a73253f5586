"use strict";
// What surveys and probes look like. Each view takes a state as the server
// sends it and makes elements of it.
const views = {};
{
  const done = (s) => s.measured + s.refused + s.interrupted;
  const ago = (t, now) => {
    if (!t) return "–";
    const s = Math.max(0, (now - Date.parse(t)) / 1000);
    for (const [n, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (s >= n) return `${Math.floor(s / n)} ${unit} ago`;
    return `${Math.floor(s)} s ago`;
  };
  views.ago = ago;

  const span = (s) => (s < 60 ? `${s.toFixed(0)} s` : s < 3600 ? `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`);

  const phase = (s) => T.el("span", {class: "state " + (s.phase === "failed" || s.stalled ? "bad" : s.phase === "running" && !s.paused ? "go" : "")}, s.paused ? "paused" : s.stalled ? s.phase + ", stalled" : s.phase);

  const progress = (s) => {
    const bar = T.el("span", {});
    bar.style.width = (s.planned ? (100 * done(s)) / s.planned : 0) + "%";
    return T.el("div", {class: "progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": s.planned, "aria-valuenow": done(s), "aria-label": "targets that are through"}, bar);
  };

  const strip = (s, height) => T.strip(s.verdicts, s.verdicts.map((v) => v.count), s.measured, height);

  const reasons = (s) => [
    s.reason && T.el("p", {class: "trouble"}, s.reason),
    s.stalled && T.el("p", {class: "trouble"}, `Nothing moves: ${s.stalled}. Nothing is lost; it goes on by itself once that is mended.`),
    s.missing.length > 0 && T.el("p", {class: "trouble"}, `Waits for ${s.missing.join(", ")}: not connected.`),
  ];

  views.surveys = (surveys) => T.el("section", {}, T.el("h2", {class: "hidden"}, "Surveys"),
    surveys.length === 0 ? T.el("p", {class: "muted"}, "There is no survey yet.") :
      [...surveys].reverse().map((s) => T.el("a", {class: "card", href: "#/survey/" + encodeURIComponent(s.id), "data-key": s.id},
        T.el("div", {class: "line"}, T.el("h3", {}, s.name || s.id), phase(s), T.el("span", {class: "grow"}),
          T.el("span", {class: "muted"}, `${T.number(done(s))} of ${T.number(s.planned)} · ${T.percent(done(s), s.planned)}`)),
        progress(s), reasons(s), s.measured > 0 && strip(s, 20))));

  // equation is every planned target once.
  const equation = (s) => T.el("div", {class: "equation", "aria-label": "Every planned target, once"},
    T.el("div", {"data-count": "planned"}, T.el("b", {}, T.number(s.planned)), T.el("span", {}, "planned")), T.el("i", {}, "="),
    ["measured", "refused", "interrupted", "cancelled", "lost", "pending"].map((k, i) => [i > 0 && T.el("i", {}, "+"), T.el("div", {class: s[k] ? "" : "zero", "data-count": k}, T.el("b", {}, T.number(s[k])), T.el("span", {}, k))]));

  views.survey = (s, choose) => T.el("section", {"data-survey": s.id},
    T.el("div", {class: "line"}, T.el("h2", {}, "Progress"), phase(s), T.el("span", {class: "grow"}), T.el("span", {class: "muted"}, `${T.percent(done(s), s.planned)} in ${span(s.elapsed_s)}`)),
    progress(s), reasons(s), equation(s),
    s.measured > 0 ? [strip(s, 34), T.legend(s.verdicts, s.measured, (i) => choose(s.verdicts[i].name))] : T.el("p", {class: "muted"}, "Nothing is measured yet."));

  const mark = (what, good, text, because) => T.el("td", {"data-what": what}, T.el("span", {class: good === true ? "yes" : good === false ? "warn" : good === "off" ? "no" : ""}, text), because && T.el("span", {class: "because"}, because));
  const connected = (p, now) => mark("connected", p.connected === "yes" ? true : p.connected === "no" ? "off" : false, p.connected === "yes" ? "yes, for " + ago(p.since, now).replace(" ago", "") : p.connected, p.connected === "banned" ? p.ban_reason : "");
  const ready = (p) => mark("ready", p.connected !== "yes" ? "off" : p.ready === "yes" ? true : p.ready ? false : "", p.connected !== "yes" ? "–" : p.ready || "not looked yet", p.ready !== "yes" ? p.reason : "");
  const near = (p) => mark("near path", p.near_path === "clean" ? true : p.near_path ? false : "", p.near_path || "–", p.near_path !== "clean" ? p.near_detail : "");

  views.probes = (probes, now) => T.el("section", {}, T.el("h2", {class: "hidden"}, "Probes"),
    probes.length === 0 ? T.el("p", {class: "muted"}, "No probe has joined yet.") :
      T.el("table", {class: "probes"},
        T.el("thead", {}, T.el("tr", {}, ["Probe", "Connected", "Ready", "Measuring", "Last result", "Near path"].map((h) => T.el("th", {scope: "col"}, h)))),
        T.el("tbody", {}, probes.map((p) => T.el("tr", {"data-probe": p.name},
          T.el("th", {scope: "row"}, T.el("a", {href: "#/probe/" + encodeURIComponent(p.name), "data-key": p.name}, p.name), T.el("span", {class: "labels"}, Object.entries(p.labels).map(([k, v]) => `${k}=${v}`).join(" "))),
          connected(p, now), ready(p),
          mark("measuring", p.measuring > 0 ? true : "off", p.connected === "yes" ? (p.measuring ? T.plural(p.measuring, "target") : "nothing") : "–"),
          mark("last result", "", ago(p.last_result, now)), near(p))))));

  views.probe = (p, now) => {
    const pair = (k, v) => v !== "" && v !== undefined && [T.el("dt", {}, k), T.el("dd", {}, v)];
    const plain = (td) => [...td.childNodes];
    return [T.el("section", {"data-probe": p.name}, T.el("h2", {}, "State"), T.el("dl", {class: "pairs"},
      pair("connected", plain(connected(p, now))), pair("ready", plain(ready(p))), pair("measuring", p.connected === "yes" ? T.plural(p.measuring, "target") : "–"), pair("last result", ago(p.last_result, now)),
      pair("near path", plain(near(p))), pair("last heard", ago(p.heard, now)), pair("done", `${T.plural(p.done, "target")} since it started, ${T.number(p.refused)} of these refused by its policy`),
      pair("leases", String(p.leases)), pair("rate limit", p.rate_limit ? `${p.rate_limit}/s` : ""),
      pair("spool", p.spool ? `${T.plural(p.spool.depth, "record")}, ${T.number(p.spool.bytes)} of ${T.number(p.spool.limit)} bytes${p.spool.dropped ? `, ${T.number(p.spool.dropped)} dropped` : ""}${p.spool.trouble ? `: ${p.spool.trouble}` : ""}` : ""))),
    T.el("section", {}, T.el("h2", {}, "Machine"), T.el("dl", {class: "pairs"},
      pair("host", p.host), pair("kernel", p.kernel), pair("version", p.version), pair("address", p.address), pair("controller", p.controller), pair("joined", p.joined ? T.when(p.joined) : ""),
      pair("labels", Object.entries(p.labels).map(([k, v]) => `${k}=${v}`).join(" ")))),
    p.events.length > 0 && T.el("section", {}, T.el("h2", {}, "What happened to it"), T.el("dl", {class: "pairs"}, [...p.events].reverse().map((e) => pair(e.at ? T.when(e.at) : "–", `${e.kind}${e.detail ? ": " + e.detail : ""}`))))];
  };
}
