"use strict";
// The table of measurements: searched, filtered, sorted and turned page by page
// in the browser, by keyboard too, down to the attempts of one.
{
  const pageSize = 50;
  const states = {"-1": "unknown", "-2": "refused", "-3": "interrupted"};

  // T.targets shows the table of numbers n in a section; it has methods for
  // tests and links.
  T.targets = (n, t, dialog) => {
    const verdict = (i) => (t.verdict[i] >= 0 ? n.verdicts[t.verdict[i]].name : states[t.verdict[i]]);
    const grave = n.verdicts.map((v) => (v.fault ? 0 : v.name === "inconclusive" ? 1 : v.name === "offline" ? 2 : 3));
    const rank = (i) => (t.verdict[i] >= 0 ? grave[t.verdict[i]] : 4) * 32 + t.verdict[i];
    const name = (i) => t.targets.host[t.target[i]];
    const address = (i) => {
      const k = t.target[i], a = t.targets.addr[k];
      return a ? (a.includes(":") ? `[${a}]` : a) + ":" + t.targets.port[k] : `port ${t.targets.port[k]}`;
    };
    // What is searched in: made once per target, when first searched.
    let hay;
    const haystack = () => (hay ??= t.targets.host.map((h, k) =>
      [h, `${t.targets.addr[k]}:${t.targets.port[k]}`, ...t.targets.groups.map((g) => g.names[g.of[k]] ?? "")].join(" ").toLowerCase()));

    const columns = [
      {key: "target", title: "Target", of: (i) => name(i) || address(i)},
      {key: "verdict", title: "Verdict", of: rank},
      {key: "probe", title: "Probe", of: (i) => t.probes[t.probe[i]], wide: true},
      {key: "rtt", title: "Round trip", of: (i) => t.rtt[i], wide: true, right: true},
      {key: "saved", title: "Saved", of: (i) => t.saved[i] ?? -Infinity, wide: true, right: true},
      {key: "made", title: "Attempts", of: (i) => t.made[i], wide: true, right: true},
    ];
    const state = {query: "", verdict: "", probe: "", condition: "", sort: "verdict", down: false, page: 0, focus: 0};
    let found = [];

    const find = () => {
      const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
      const h = words.length ? haystack() : null;
      const probes = t.probes.map((p) => p.toLowerCase());
      const names = new Map([...n.verdicts.map((v, k) => [k, v.name.replaceAll("_", " ") + " " + v.name]), ...Object.entries(states).map(([k, s]) => [Number(k), s])]);
      const sets = state.condition === "" ? null : new Set(t.sets.flatMap((s, k) => (s.includes(Number(state.condition)) ? [k] : [])));
      found = [];
      for (let i = 0; i < t.n; i++) {
        if (state.verdict !== "" && t.verdict[i] !== Number(state.verdict)) continue;
        if (state.probe !== "" && t.probe[i] !== Number(state.probe)) continue;
        if (sets && !sets.has(t.set[i])) continue;
        if (h && !words.every((w) => h[t.target[i]].includes(w) || probes[t.probe[i]].includes(w) || names.get(t.verdict[i]).includes(w))) continue;
        found.push(i);
      }
      const {of} = columns.find((c) => c.key === state.sort);
      const keys = new Map(found.map((i) => [i, of(i)])), sign = state.down ? -1 : 1;
      found.sort((a, b) => {
        const x = keys.get(a), y = keys.get(b);
        return x < y ? -sign : x > y ? sign : a - b;
      });
      state.page = 0;
      state.focus = 0;
      draw();
    };

    const body = T.el("tbody", {});
    const count = T.el("p", {class: "muted", role: "status"});
    const row = (i, at) => T.el("tr", {tabindex: at === state.focus ? "0" : "-1", "data-row": i, onclick: () => open(state.page * pageSize + at)},
      T.el("td", {class: "target"}, T.el("span", {class: "host"}, name(i) || address(i)), name(i) ? T.el("span", {class: "addr"}, address(i)) : ""),
      T.el("td", {}, T.word(verdict(i))),
      T.el("td", {class: "wide"}, t.probes[t.probe[i]]),
      T.el("td", {class: "wide right"}, t.rtt[i] < 0 ? "–" : T.ms(t.rtt[i])),
      T.el("td", {class: "wide right"}, t.saved[i] === null ? "–" : T.ms(t.saved[i])),
      T.el("td", {class: "wide right"}, t.made[i] + (t.block[i] < 0 && t.made[i] ? "*" : "")));
    const pages = () => Math.max(1, Math.ceil(found.length / pageSize));
    const draw = () => {
      const from = state.page * pageSize;
      body.replaceChildren(...found.slice(from, from + pageSize).map(row));
      count.textContent = found.length === t.n ? `${T.plural(t.n, "measurement")}` : `${T.number(found.length)} of ${T.plural(t.n, "measurement")}`;
      where.textContent = `page ${T.number(state.page + 1)} of ${T.number(pages())}`;
      back.disabled = state.page === 0;
      forth.disabled = state.page + 1 >= pages();
      for (const c of columns) {
        const th = head.querySelector(`[data-key=${c.key}]`);
        th.setAttribute("aria-sort", c.key !== state.sort ? "none" : state.down ? "descending" : "ascending");
      }
    };
    const turn = (by, focus) => {
      const to = Math.min(pages() - 1, Math.max(0, state.page + by));
      if (to === state.page) return;
      state.page = to;
      state.focus = 0;
      draw();
      if (focus) body.firstChild?.focus();
    };
    const move = (to) => {
      const rows = body.children;
      if (!rows.length) return;
      to = Math.min(rows.length - 1, Math.max(0, to));
      rows[state.focus]?.setAttribute("tabindex", "-1");
      state.focus = to;
      rows[to].setAttribute("tabindex", "0");
      rows[to].focus();
    };
    body.addEventListener("focusin", (e) => {
      const at = [...body.children].indexOf(e.target.closest("tr"));
      if (at >= 0 && at !== state.focus) {
        body.children[state.focus]?.setAttribute("tabindex", "-1");
        state.focus = at;
        body.children[at].setAttribute("tabindex", "0");
      }
    });
    body.addEventListener("keydown", (e) => {
      const last = body.children.length - 1;
      const keys = {
        ArrowDown: () => (state.focus === last ? turn(1, true) : move(state.focus + 1)),
        ArrowUp: () => move(state.focus - 1),
        Home: () => move(0), End: () => move(last),
        PageDown: () => turn(1, true), PageUp: () => turn(-1, true),
        Enter: () => open(state.page * pageSize + state.focus), " ": () => open(state.page * pageSize + state.focus),
      };
      if (keys[e.key] && !e.ctrlKey && !e.metaKey && !e.altKey) {
        e.preventDefault();
        keys[e.key]();
      }
    });

    const sort = (key) => {
      state.down = state.sort === key ? !state.down : key === "saved" || key === "rtt" || key === "made";
      state.sort = key;
      find();
    };
    const head = T.el("tr", {}, columns.map((c) => T.el("th", {scope: "col", "data-key": c.key, class: [c.wide && "wide", c.right && "right"].filter(Boolean).join(" ")},
      T.el("button", {type: "button", onclick: () => sort(c.key)}, c.title))));
    const where = T.el("span", {class: "muted"});
    const back = T.el("button", {type: "button", onclick: () => turn(-1)}, "‹ Previous");
    const forth = T.el("button", {type: "button", onclick: () => turn(1)}, "Next ›");

    const search = T.el("input", {type: "search", id: "search", placeholder: "name, address, verdict, probe …", autocomplete: "off", spellcheck: "false",
      oninput: T.later(80, () => look())});
    const look = () => {
      if (state.query === search.value) return;
      state.query = search.value;
      find();
    };
    search.addEventListener("keydown", (e) => {
      if (e.key !== "ArrowDown" && e.key !== "Enter") return;
      e.preventDefault();
      look();
      move(0);
    });
    const has = new Set(t.verdict);
    const verdicts = T.select("Verdict", [["", "all"], ...n.verdicts.map((v, k) => [k, v.name.replaceAll("_", " ")]), ...Object.entries(states).filter(([k]) => has.has(Number(k)))],
      (v) => { state.verdict = v; find(); });
    const probes = T.select("Probe", [["", "all"], ...t.probes.map((p, k) => [k, p])], (v) => { state.probe = v; find(); });
    const conditions = T.select("Condition", [["", "any"], ...t.conditions.map((c, k) => [k, c]).sort((a, b) => (a[1] < b[1] ? -1 : 1))], (v) => { state.condition = v; find(); });

    // open shows what is found at a place, and the way to its neighbours.
    const open = (at) => dialog.show({row: found[at], at, of: found.length, go: (to) => to >= 0 && to < found.length && open(to)}, () => {
      const back = body.querySelector(`[data-row="${found[at]}"]`);
      if (back) move([...body.children].indexOf(back));
    });

    const node = T.el("div", {class: "tablebox"},
      T.el("div", {class: "filters"}, T.el("label", {class: "choice grow"}, T.el("span", {}, "Search"), search), verdicts.node, t.probes.length > 1 && probes.node, conditions.node),
      T.el("div", {class: "over"}, count, T.el("span", {class: "muted hint"}, "/ search · ↓ to the rows · ↑ ↓ move · Enter opens")),
      T.el("table", {class: "rows"}, T.el("caption", {class: "hidden"}, "Measurements"), T.el("thead", {}, head), body),
      T.el("div", {class: "pager"}, back, where, forth));
    document.addEventListener("keydown", (e) => {
      if (e.key === "/" && !e.target.closest("input, select, textarea, dialog")) {
        e.preventDefault();
        search.focus();
      }
    });
    find();
    return {node, search: (text) => { search.value = text; look(); }, openRow: (i) => open(Math.max(0, found.indexOf(i))), filter: (v) => { verdicts.value.value = v; state.verdict = String(v); find(); }};
  };

  // T.dialog shows one measurement over the page.
  T.dialog = (n, t) => {
    const content = T.el("div", {class: "content"});
    const title = T.el("h2", {id: "dialogtitle", tabindex: "-1", autofocus: true});
    const place = T.el("span", {class: "muted"});
    const prev = T.el("button", {type: "button", onclick: () => now.go(now.at - 1)}, "‹ Previous");
    const next = T.el("button", {type: "button", onclick: () => now.go(now.at + 1)}, "Next ›");
    const box = T.el("dialog", {"aria-labelledby": "dialogtitle"},
      T.el("div", {class: "bar"}, title, T.el("div", {class: "buttons"}, prev, place, next), T.el("button", {type: "button", class: "close", "aria-label": "Close", onclick: () => box.close()}, "✕")),
      content);
    let now, closed;
    box.addEventListener("close", () => {
      history.replaceState(null, "", location.pathname + location.search);
      closed?.();
    });
    box.addEventListener("click", (e) => e.target === box && box.close());
    const missing = (i) => {
      const s = n.surveys[t.survey[i]];
      return T.el("p", {class: "muted"}, t.made[i]
        ? `The ${T.plural(t.made[i], "attempt")} of this measurement are not in this file, which holds those of a sample of what has nothing wrong. They are in the dataset: table attempts, survey ${s.id}, probe ${t.probes[t.probe[i]]}, item ${t.targets.item[t.target[i]]}.`
        : "No attempt was made.");
    };
    const summary = (i) => {
      const k = t.target[i], v = n.verdicts[t.verdict[i]];
      return {
        target: `${t.targets.addr[k] || "no address"}, port ${t.targets.port[k]}`, hostname: t.targets.host[k], probe: t.probes[t.probe[i]],
        outcome: {"-2": "refused by the probe's policy: nothing was sent", "-3": "interrupted: started and never finished"}[t.verdict[i]] ?? "",
        verdict: v?.name, meaning: v?.meaning, conditions: t.sets[t.set[i]].map((c) => t.conditions[c]),
      };
    };
    const show = async (entry, onclose) => {
      now = entry;
      closed = onclose;
      const i = entry.row, k = t.target[i];
      title.textContent = t.targets.host[k] || t.targets.addr[k] || `port ${t.targets.port[k]}`;
      place.textContent = `${T.number(entry.at + 1)} of ${T.number(entry.of)}`;
      prev.disabled = entry.at === 0;
      next.disabled = entry.at + 1 >= entry.of;
      history.replaceState(null, "", "#m" + i);
      if (!box.open) box.showModal();
      redraw = undefined;
      if (t.block[i] < 0) {
        const s = summary(i);
        content.replaceChildren(T.el("div", {class: "evidence"},
          T.el("p", {class: "sub"}, s.target, ` · from ${s.probe}`),
          T.el("div", {class: "why"}, T.el("p", {}, s.verdict ? T.word(s.verdict) : s.outcome, T.el("span", {class: "muted"}, " " + (s.meaning ?? ""))),
            T.el("ul", {class: "chips", "aria-label": "conditions"}, s.conditions.map((c) => T.el("li", {}, c)))),
          missing(i)));
        return;
      }
      const e = (await T.block(t.block[i]))[t.at[i]];
      if (now !== entry) return; // another was asked for meanwhile
      const draw = () => content.replaceChildren(T.evidence(e, T.inside(content)));
      draw();
      content.scrollTop = 0;
      redraw = draw;
    };
    let redraw, width;
    new ResizeObserver(() => {
      if (content.clientWidth !== width && box.open) redraw?.();
      width = content.clientWidth;
    }).observe(box);
    return {node: box, show};
  };
}
