"use strict";
// The evidence of a measurement: each attempt as a packet sequence diagram with
// the facts beside it.
{
  const charWidth = 6.7; // of the diagram's font, on the safe side
  const lineHeight = 15;

  // wrap breaks words into lines of at most n characters, cookies too.
  const wrap = (s, n) => {
    const lines = [""];
    for (let word of s.split(" ")) {
      while (word.length > n) {
        const last = lines.pop();
        lines.push(...(last ? [last] : []), word.slice(0, n), "");
        word = word.slice(n);
      }
      const last = lines.length - 1;
      if (!lines[last]) lines[last] = word;
      else if ((lines[last] + " " + word).length <= n) lines[last] += " " + word;
      else lines.push(word);
    }
    return lines.filter(Boolean);
  };

  const sources = {wire: "seen on the wire", socket: "told by the kernel", follows: "must have been, not seen"};

  const sentence = (s) => {
    const who = {client: "probe sends ", target: "target sends ", path: "somebody on the path sends "}[s.from] || "";
    return who + s.what + (s.label ? ": " + s.label : "") + (s.at_us === undefined ? "" : ` at ${T.ms(s.at_us)}`) + (s.unanswered ? ", unanswered" : "");
  };

  // diagram draws the steps of an attempt for a width in pixels.
  T.diagram = (steps, width) => {
    const left = 74, right = width - 22, middle = (left + right) / 2;
    const nodes = [];
    let y = 34;
    for (const s of steps) {
      const what = s.what;
      const lines = wrap(what + (s.label ? " · " + s.label : ""), Math.max(14, Math.floor((right - left - 28) / charWidth)));
      const top = y;
      y += lines.length * lineHeight;
      const text = T.svg("text", {x: middle, y: top + 4, class: "label " + (s.from ? "" : "note")});
      lines.forEach((line, i) => {
        const bold = i === 0 && line.startsWith(what);
        text.append(T.svg("tspan", {x: middle, dy: i ? lineHeight : 0}, bold ? T.svg("tspan", {class: "what"}, what) : "", bold ? line.slice(what.length) : line));
      });
      if (s.at_us !== undefined) nodes.push(T.svg("text", {x: left - 12, y: y - 1, class: "time"}, T.ms(s.at_us)));
      if (s.from) {
        const leftward = s.from !== "client";
        const start = s.from === "client" ? left : s.from === "path" ? middle : right;
        const full = leftward ? left : right;
        const end = s.unanswered && !leftward ? start + (full - start) * 0.86 : full;
        const slope = 8, yEnd = y - 4 + slope;
        nodes.push(T.svg("line", {x1: start, y1: y - 4, x2: end, y2: yEnd, class: `arrow ${s.from} ${s.source}`}));
        if (s.unanswered) {
          nodes.push(T.svg("circle", {cx: end, cy: yEnd, r: 8, class: "lost"}), T.svg("text", {x: end, y: yEnd + 4, class: "lostmark"}, "?"));
        } else {
          const d = leftward ? 9 : -9;
          nodes.push(T.svg("path", {d: `M${end} ${yEnd}l${d} -5v10z`, class: `head ${s.from}`}));
        }
        y = yEnd + 24;
      } else {
        nodes.push(T.svg("line", {x1: left, y1: y, x2: right, y2: y, class: "gap"}));
        y += 24;
      }
      nodes.push(text);
    }
    const height = y;
    const lane = (x) => T.svg("line", {x1: x, y1: 20, x2: x, y2: height, class: "lane"});
    return T.svg("svg", {class: "sequence", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": steps.map(sentence).join("; ")},
      lane(left), lane(right),
      T.svg("text", {x: left, y: 14, class: "lanename"}, "probe"), T.svg("text", {x: right, y: 14, class: "lanename end"}, "target"),
      nodes);
  };

  const key = (source) => T.el("span", {class: "key"},
    T.svg("svg", {width: 34, height: 10, "aria-hidden": "true"}, T.svg("line", {x1: 1, y1: 5, x2: 33, y2: 5, class: "arrow client " + source})), sources[source]);

  const attempt = (a, n, width) => T.el("section", {class: "attempt"},
    T.el("h3", {}, `${n} `, T.el("span", {}, a.kind.replaceAll("_", " "))),
    T.el("p", {class: "shown"}, a.shown),
    T.el("div", {class: "beside"},
      T.el("div", {class: "drawing"}, T.diagram(a.steps, width)),
      T.el("dl", {class: "facts"}, a.facts.map((f) => [T.el("dt", {}, f.what), T.el("dd", {}, f.text)]))));

  // evidence is everything about a measurement, for a width in pixels.
  T.evidence = (e, width) => {
    const drawing = width >= 720 ? Math.min(520, Math.round(width * 0.56)) : width;
    return T.el("div", {class: "evidence"},
      T.el("p", {class: "sub"}, e.target, ` · from ${e.probe}`,
        e.started ? ` · ${new Date(e.started).toISOString().replace("T", " ").slice(0, 19)} UTC` : "", ` · took ${T.ms(e.duration_us)}`),
      T.el("div", {class: "why"},
        T.el("p", {}, e.verdict ? T.word(e.verdict) : e.outcome, e.meaning ? T.el("span", {class: "muted"}, " " + e.meaning) : ""),
        e.reasons.length ? T.el("ul", {}, e.reasons.map((r) => T.el("li", {}, "because " + r))) : "",
        e.conditions.length ? T.el("ul", {class: "chips", "aria-label": "conditions"}, e.conditions.map((c) => T.el("li", {}, c))) : ""),
      e.attempts.length
        ? [T.el("p", {class: "keys"}, key("wire"), key("socket"), key("follows"), T.el("span", {class: "key"}, T.el("b", {class: "mark"}, "?"), " no answer came back: it or its answer was lost")),
          e.attempts.map((a, i) => attempt(a, i + 1, drawing))]
        : T.el("p", {class: "muted"}, "No attempt was made."));
  };
}
