"use strict";
// The charts, drawn by Observable Plot for the width there is, each with its
// numbers as a table beneath it.
{
  // figure draws again when its width changes.
  const figure = (title, caption, draw, numbers, controls) => {
    const box = T.el("div", {class: "chart"});
    const tableBox = T.el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": title + ", numbers"});
    const details = T.el("details", {}, T.el("summary", {}, "Numbers"), tableBox);
    details.addEventListener("toggle", () => details.open && tableBox.replaceChildren(plain(numbers())));
    const again = () => {
      const width = Math.floor(box.clientWidth);
      if (width > 0) box.replaceChildren(...[draw(width)].flat());
      if (details.open) tableBox.replaceChildren(plain(numbers()));
    };
    let width = 0;
    new ResizeObserver(() => {
      if (Math.abs(box.clientWidth - width) < 2) return;
      width = box.clientWidth;
      again();
    }).observe(box);
    dark.addEventListener("change", again);
    return {again, node: T.el("figure", {}, T.el("figcaption", {}, title && T.el("h3", {}, title), caption && T.el("p", {class: "muted"}, caption)), controls, box, details)};
  };

  const plain = ({head, rows}) => T.el("table", {class: "numbers"},
    T.el("thead", {}, T.el("tr", {}, head.map((h, i) => T.el("th", {scope: "col", class: i && "right"}, h)))),
    T.el("tbody", {}, rows.map((r) => T.el("tr", {}, r.map((c, i) => (i ? T.el("td", {class: "right"}, c) : T.el("th", {scope: "row"}, c)))))));

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const font = {fontSize: "12px", fontFamily: "inherit", background: "transparent", overflow: "visible"};
  const clip = (s, n) => (s.length > n ? s.slice(0, n - 1) + "…" : s);

  // bars are the verdict shares of groups, stacked.
  T.bars = (n, shares) => {
    const cells = shares.groups.flatMap((g) => {
      let x = 0;
      return n.verdicts.map((v, i) => {
        const from = x;
        x += g.measured ? g.by[i] / g.measured : 0;
        return {key: g.key, verdict: v.name, n: g.by[i], of: g.measured, from, to: x};
      }).filter((c) => c.n > 0);
    });
    const draw = (width) => Plot.plot({
      width, height: shares.groups.length * 44 + 26, marginLeft: 0, marginRight: 0, marginTop: 0, marginBottom: 24, style: font,
      x: {domain: [0, 100], percent: true, label: null, ticks: 5, tickFormat: (d) => d + "%"},
      y: {domain: shares.groups.map((g) => g.key), axis: null, padding: 0},
      marks: [
        Plot.barX(cells, {x1: "from", x2: "to", y: "key", insetTop: 20, insetBottom: 4, fill: (c) => T.colour(c.verdict), stroke: "var(--card)", strokeWidth: 1}),
        Plot.text(cells.filter((c) => (c.to - c.from) * width > 7.2 * c.verdict.length + 10), {x: (c) => (c.from + c.to) / 2, y: "key", dy: 8, text: (c) => c.verdict.replaceAll("_", " "), fill: (c) => T.on(c.verdict)}),
        Plot.text(shares.groups, {x: () => 0, y: "key", dy: -12, textAnchor: "start", text: (g) => clip(g.key, Math.floor(width / 11)), fill: "var(--ink)", fontWeight: 600}),
        Plot.text(shares.groups, {x: () => 1, y: "key", dy: -12, textAnchor: "end", text: (g) => `${T.number(g.measured)} measured`, fill: "var(--muted)"}),
        Plot.tip(cells, Plot.pointerX({x: (c) => (c.from + c.to) / 2, y: "key", title: (c) => `${c.key}\n${c.verdict}: ${T.number(c.n)} of ${T.number(c.of)} (${T.percent(c.n, c.of)})`, fill: "var(--card)", stroke: "var(--line)"})),
      ],
    });
    const numbers = () => ({
      head: [shares.by, "measured", "any fault", "95% interval", "noise", ...n.verdicts.map((v) => v.name.replaceAll("_", " "))],
      rows: shares.groups.map((g) => [g.key, T.number(g.measured), T.percent(g.fault.count, g.measured), T.interval(g.fault), T.percent(g.noise, g.measured), ...g.by.map((c) => `${T.number(c)} (${T.percent(c, g.measured)})`)]),
    });
    return figure("By " + shares.by, shares.left ? `The ${shares.groups.length} largest; ${T.number(shares.left)} more are not drawn.` : "", draw, numbers);
  };

  // heat is the share of something, probes against groups of targets.
  T.heat = (n) => {
    const faults = n.verdicts.map((v) => v.fault);
    const any = n.verdicts.some((v) => v.fault && v.count);
    const whats = [...(any ? [["fault", "any fault"], ["noise", "noise"]] : []), ...n.verdicts.map((v, i) => [String(i), v.name.replaceAll("_", " ")])];
    let what = whats[0]?.[0], map = n.heat[0];
    const count = (c) => (what === "noise" ? c.noise : what === "fault" ? c.by.reduce((s, k, i) => s + (faults[i] ? k : 0), 0) : c.by[what]);
    const cells = () => map.cells.map((c, k) => ({probe: map.probes[Math.floor(k / map.groups.length)], group: map.groups[k % map.groups.length], n: count(c), of: c.measured})).filter((c) => c.of > 0);
    const draw = (width) => {
      const left = Math.min(150, Math.max(56, 7 * Math.max(...map.probes.map((p) => p.length)) + 14), width * 0.36);
      const need = Math.max(width, left + map.groups.length * 46);
      const all = cells(), most = Math.max(0.0001, ...all.map((c) => c.n / c.of)), turn = dark.matches ? 0.55 : 0.8;
      const long = Math.max(...map.groups.map((g) => g.length)) * 7 > (need - left) / map.groups.length - 6;
      const top = long ? Math.min(104, 5.2 * Math.min(18, Math.max(...map.groups.map((g) => g.length))) + 22) : 24;
      const svg = Plot.plot({
        width: need, height: map.probes.length * 34 + top + 6, marginLeft: left, marginRight: 24, marginTop: top, marginBottom: 2, style: font,
        x: {domain: map.groups, axis: "top", label: null, tickSize: 0, tickRotate: long ? -45 : 0, tickFormat: (g) => clip(g, 18), padding: 0.04},
        y: {domain: map.probes, label: null, tickSize: 0, tickFormat: (p) => clip(p, Math.floor((left - 8) / 7)), padding: 0.08},
        marks: [
          Plot.cell(all, {x: "group", y: "probe", fill: "var(--heat)", fillOpacity: (c) => (c.n ? 0.1 + (0.9 * c.n) / c.of / most : 0.03), rx: 3}),
          Plot.text(all, {x: "group", y: "probe", text: (c) => (c.n ? T.percent(c.n, c.of).replace("100.0%", "100%") : "0"), fill: (c) => (c.n / c.of / most > turn ? "var(--on-heat)" : "var(--ink)"), fontSize: 11}),
          Plot.tip(all, Plot.pointerX({x: "group", y: "probe", title: (c) => `${c.probe} × ${c.group}\n${T.number(c.n)} of ${T.number(c.of)} measured (${T.percent(c.n, c.of)})`, fill: "var(--card)", stroke: "var(--line)"})),
        ],
      });
      return T.el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Probes against groups of targets"}, svg);
    };
    const numbers = () => ({
      head: ["probe", ...map.groups],
      rows: map.probes.map((p) => [p, ...map.groups.map((g) => { const c = cells().find((c) => c.probe === p && c.group === g); return c ? `${T.number(c.n)}/${T.number(c.of)}` : "–"; })]),
    });
    const f = figure("", "The share of what a probe measured in a group of targets. A row that stands out throughout points at the probe's own network, a column at the targets'.", draw, numbers, T.el("div", {class: "filters"},
      T.select("Share of", whats, (v) => { what = v; f.again(); }).node,
      n.heat.length > 1 && T.select("Groups by", n.heat.map((h, i) => [i, h.by]), (v) => { map = n.heat[v]; f.again(); }).node));
    return f;
  };

  const dashes = ["", "6 3", "2 3", "10 3 2 3", "8 2", "3 2", "12 4", "1 3"];
  const hues = ["var(--ink)", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6fd1", "#7a8490"];

  // cdf is the time saved, as cumulative distributions.
  T.cdf = (n) => {
    let unit = "us";
    const curves = () => n.saved.filter((c) => c[unit].length);
    const scale = () => (unit === "us" ? 1000 : 100);
    const style = (c) => { const i = n.saved.indexOf(c); return {stroke: hues[i % hues.length], strokeDasharray: i ? dashes[(i - 1) % dashes.length] : "", strokeWidth: i ? 1.8 : 2.4}; };
    const draw = (width) => {
      // What lies far from the middle 90% would leave no room for these.
      const all = curves(), far = (c) => 2 * (c[unit].at(-6) - c[unit][5]);
      const lows = all.map((c) => Math.max(c[unit][1], c[unit][5] - far(c))), highs = all.map((c) => Math.min(c[unit].at(-2), c[unit].at(-6) + far(c)));
      const domain = [Math.min(0, ...lows) / scale(), Math.max(...highs, 1) / scale()];
      const points = all.map((c) => c[unit].map((v, i) => ({x: v / scale(), y: (100 * i) / (c[unit].length - 1), name: c.probe || "all probes"})));
      return [Plot.plot({
        width, height: 300, marginLeft: 44, marginRight: 14, marginBottom: 40, style: font, clip: true,
        x: {domain, label: unit === "us" ? "time to first byte saved (ms) →" : "saved, in round trips of the target →", grid: true, nice: false, ticks: width < 500 ? 5 : 10},
        y: {domain: [0, 100], label: "↑ % of targets", grid: true, ticks: 5},
        marks: [
          Plot.ruleX([0], {stroke: "var(--muted)"}),
          unit === "rtt" && domain[1] > 1 && Plot.ruleX([1], {stroke: "var(--muted)", strokeDasharray: "3 3"}),
          points.map((p, i) => Plot.line(p, {x: "x", y: "y", ...style(all[i]), clip: true})),
          Plot.tip(points.flat(), Plot.pointerX({x: "x", y: "y", title: (p) => `${p.name}\n${p.y.toFixed(0)}% of targets saved less than ${p.x.toFixed(2)} ${unit === "us" ? "ms" : "RTT"}`, fill: "var(--card)", stroke: "var(--line)"})),
        ].filter(Boolean),
      }), T.el("ul", {class: "lines"}, all.map((c) => {
        const s = style(c);
        return T.el("li", {}, T.svg("svg", {width: 30, height: 10, "aria-hidden": "true"}, T.svg("line", {x1: 0, x2: 30, y1: 5, y2: 5, stroke: s.stroke, "stroke-dasharray": s.strokeDasharray, "stroke-width": s.strokeWidth})), `${c.probe || "all probes"} (${T.number(c.n)})`);
      }))];
    };
    const at = [10, 25, 50, 75, 90];
    const numbers = () => ({
      head: ["probe", "targets", ...at.map((q) => `${q}%`)],
      rows: curves().map((c) => [c.probe || "all probes", T.number(c.n), ...at.map((q) => (unit === "us" ? T.ms(c.us[q]) : (c.rtt[q] / 100).toFixed(2) + " RTT"))]),
    });
    const exact = n.saved.every((c) => c.exact) ? "" : " Values are off by 0.8% at most.";
    const f = figure("", "Time to first byte without Fast Open minus with it, medians per supported target. Left of 0, Fast Open was slower. The outermost 1% on either side, and what lies further out than twice the width of the middle 90%, are not drawn." + exact, draw, numbers,
      n.saved.some((c) => c.rtt.length) && T.el("div", {class: "filters"}, T.select("In", [["us", "milliseconds"], ["rtt", "round trips"]], (v) => { unit = v; f.again(); }).node));
    return f;
  };

  // sizes is what became of data in the SYN by its size.
  T.sizes = (n) => {
    const points = n.sizes.map((s) => ({...s, y: (100 * s.acked) / s.n, low100: 100 * s.low, high100: 100 * s.high, label: s.from === s.to ? String(s.from) : `${s.from}–${s.to}`}));
    const draw = (width) => Plot.plot({
      width, height: 280, marginLeft: 44, marginRight: 34, marginBottom: 40, style: font,
      x: {type: "point", domain: points.map((p) => p.label), label: "bytes of data in the SYN →", padding: 0.25},
      y: {domain: [0, 100], label: "↑ % of targets that acknowledge all of it", grid: true, ticks: 5},
      marks: [
        Plot.ruleX(points, {x: "label", y1: "low100", y2: "high100", stroke: "var(--accent)", strokeOpacity: 0.55, strokeWidth: 3}),
        Plot.line(points, {x: "label", y: "y", stroke: "var(--accent)", strokeWidth: 2}),
        Plot.dot(points, {x: "label", y: "y", fill: "var(--accent)", r: 4}),
        Plot.tip(points, Plot.pointerX({x: "label", y: "y", title: (p) => `${p.label} bytes\nall ${T.percent(p.acked, p.n)}, part ${T.percent(p.part, p.n)}, none ${T.percent(p.none, p.n)}, lost ${T.percent(p.lost, p.n)}\nof ${T.number(p.n)} targets`, fill: "var(--card)", stroke: "var(--line)"})),
      ],
    });
    const numbers = () => ({
      head: ["bytes", "targets", "all acknowledged", "95% interval", "part", "none", "lost"],
      rows: points.map((p) => [p.label, T.number(p.n), T.percent(p.acked, p.n), T.interval(p), T.number(p.part), T.number(p.none), T.number(p.lost)]),
    });
    return figure("", "SYNs of a chosen size, at targets that took data in a SYN or lost it; of several tries the best counts. Bars are 95% intervals. The largest is what the kernel could fit.", draw, numbers);
  };

  // mesh is what probes saw of each other, per port and IP version.
  T.mesh = (n) => {
    const several = new Set(n.mesh.map((p) => p.mesh)).size > 1;
    const keyOf = (p) => `${p.port} IPv${p.family}${several ? " · " + p.mesh : ""}`;
    const keys = [...new Set(n.mesh.map(keyOf))].sort((a, b) => a.localeCompare(b, "en", {numeric: true}));
    let key = keys[0];
    const box = T.el("div", {});
    const cell = (p) => {
      if (!p) return T.el("td", {class: "none"}, "·");
      const td = T.el("td", {title: `${p.from} → ${p.to}: ${p.verdict}${p.direction ? ", " + p.direction : ""}${p.detail ? "\n" + p.detail : ""}`}, p.verdict.replaceAll("_", " "), p.direction && T.el("span", {class: "way"}, p.direction === "forward" ? "→ forward" : p.direction === "return" ? "← return" : p.direction));
      td.classList.add(p.fault ? "bad" : p.verdict === "supported" ? "good" : "plain");
      return td;
    };
    const draw = () => {
      const pairs = n.mesh.filter((p) => keyOf(p) === key);
      const of = new Map(pairs.map((p) => [JSON.stringify([p.from, p.to]), p]));
      const get = (a, b) => of.get(JSON.stringify([a, b]));
      const names = [...new Set(pairs.flatMap((p) => [p.from, p.to]))].sort();
      const said = (p) => p.verdict + (p.direction ? ` (${p.direction})` : "");
      const odd = names.flatMap((a, i) => names.slice(i + 1).map((b) => [get(a, b), get(b, a)])).filter(([x, y]) => x && y && said(x) !== said(y));
      box.replaceChildren(
        T.el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Mesh matrix"}, T.el("table", {class: "mesh"},
          T.el("thead", {}, T.el("tr", {}, T.el("th", {scope: "col"}, "client ↓  listener →"), names.map((b) => T.el("th", {scope: "col"}, b)))),
          T.el("tbody", {}, names.map((a) => T.el("tr", {}, T.el("th", {scope: "row"}, a), names.map((b) => (a === b ? T.el("td", {class: "self"}) : cell(get(a, b))))))))),
        odd.length ? T.el("div", {}, T.el("h3", {}, "Not the same in both directions"), T.el("ul", {}, odd.map(([x, y]) => T.el("li", {}, `${x.from} → ${x.to}: ${said(x)}; ${y.from} → ${y.to}: ${said(y)}`)))) : T.el("p", {class: "muted"}, "Every pair is the same in both directions."));
    };
    draw();
    return T.el("div", {}, keys.length > 1 && T.el("div", {class: "filters"}, T.select("Port", keys.map((k) => [k, k]), (v) => { key = v; draw(); }).node), box);
  };
}
