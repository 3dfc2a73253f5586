"use strict";
// What a survey's finished chunks hold, as a list down to the evidence of one
// measurement.

T.measurements = (survey) => {
  const base = `surveys/${encodeURIComponent(survey)}/`;
  const body = T.el("tbody", {});
  const status = T.el("p", {class: "muted", role: "status"});
  const more = T.el("button", {type: "button", onclick: () => load(false)}, "More");
  let state = {q: "", verdict: "", next: ""}, loading = 0, rows = [];

  const load = async (fresh) => {
    const mine = ++loading;
    if (fresh) {
      rows = [];
      state.next = "";
    }
    status.textContent = "Looking …";
    try {
      const r = await fetch(base + "measurements?" + new URLSearchParams({q: state.q, verdict: state.verdict, after: state.next}));
      if (!r.ok) throw new Error((await r.text()).trim());
      const page = await r.json();
      if (mine !== loading) return;
      const at = rows.length;
      rows.push(...page.rows);
      state.next = page.next || "";
      if (fresh) body.replaceChildren();
      body.append(...page.rows.map((m, i) => row(m, at + i)));
      more.hidden = !state.next;
      more.textContent = page.rows.length ? "More" : "Search on";
      status.textContent = page.chunks === 0 ? "No chunk is finished yet." : `${T.number(rows.length)} shown, ${state.next ? `up to chunk ${T.number(Math.min(page.chunks, page.searched + 1))}` : "all"} of ${T.plural(page.chunks, "finished chunk")}.`;
    } catch (e) {
      if (mine === loading) status.textContent = e.message;
    }
  };

  const name = (m) => m.hostname || (m.address ? `${m.address.includes(":") ? `[${m.address}]` : m.address}:${m.port}` : `port ${m.port}`);
  const row = (m, at) => T.el("tr", {tabindex: at ? "-1" : "0", onclick: () => open(at)},
    T.el("td", {class: "target"}, T.el("span", {class: "host"}, name(m)), m.hostname && T.el("span", {class: "addr"}, m.address ? `${m.address} port ${m.port}` : `port ${m.port}`)),
    T.el("td", {}, m.verdict ? T.word(m.verdict) : m.outcome),
    T.el("td", {class: "wide"}, m.probe), T.el("td", {class: "wide right"}, m.attempts));
  body.addEventListener("keydown", (e) => {
    const at = [...body.children].indexOf(e.target.closest("tr"));
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: body.children.length - 1}[e.key];
    if (e.key === "Enter" || e.key === " ") open(at);
    else if (to === undefined) return;
    else {
      const next = body.children[Math.min(body.children.length - 1, Math.max(0, to))];
      body.children[at].tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
    e.preventDefault();
  });

  const content = T.el("div", {class: "content"}), title = T.el("h2", {id: "dialogtitle", tabindex: "-1", autofocus: true});
  const box = T.el("dialog", {"aria-labelledby": "dialogtitle"},
    T.el("div", {class: "bar"}, title, T.el("button", {type: "button", "aria-label": "Close", onclick: () => box.close()}, "✕")), content);
  box.addEventListener("click", (e) => e.target === box && box.close());
  const open = async (at) => {
    const m = rows[at];
    title.textContent = name(m);
    content.replaceChildren(T.el("p", {class: "muted"}, "Reading …"));
    box.addEventListener("close", () => body.children[at]?.focus(), {once: true});
    box.showModal();
    try {
      const r = await fetch(base + "evidence?" + new URLSearchParams({chunk: m.chunk, probe: m.probe, item: m.item}));
      if (!r.ok) throw new Error((await r.text()).trim());
      const evidence = await r.json();
      if (box.open && rows[at] === m) content.replaceChildren(T.evidence(evidence, T.inside(content)));
    } catch (e) {
      content.replaceChildren(T.el("p", {role: "alert"}, e.message));
    }
  };

  const search = T.el("input", {type: "search", placeholder: "name, address, probe …", autocomplete: "off", spellcheck: "false", oninput: T.later(250, () => { state.q = search.value; load(true); })});
  const verdicts = T.select("Verdict", [["", "all"], ...["supported", "cookie_only", "data_truncated", "cookie_unstable", "unsupported", "option_dropped", "data_dropped", "reset", "flow_blackholed",
    "blackholed_after_handshake", "client_blocked", "offline", "inconclusive", "refused", "interrupted"].map((v) => [v, v.replaceAll("_", " ")])], (v) => { state.verdict = v; load(true); });
  load(true);
  return {
    filter: (v) => { verdicts.value.value = v; state.verdict = v; load(true); },
    node: T.el("div", {},
      T.el("div", {class: "filters"}, T.el("label", {class: "choice grow"}, T.el("span", {}, "Search"), search), verdicts.node),
      T.el("div", {class: "over"}, status, T.el("button", {type: "button", class: "link", onclick: () => load(true)}, "↻ look again")),
      T.el("table", {class: "rows"}, T.el("caption", {class: "hidden"}, "Measurements"),
        T.el("thead", {}, T.el("tr", {}, ["Target", "Verdict"].map((h) => T.el("th", {scope: "col"}, h)), T.el("th", {scope: "col", class: "wide"}, "Probe"), T.el("th", {scope: "col", class: "wide right"}, "Attempts"))), body),
      T.el("div", {class: "more"}, more), box),
  };
};
