"use strict";
// The live pages: where one is, and what the server's events change there.
{
  const $ = (id) => document.getElementById(id);
  const main = $("main"), live = $("live");
  let state = {}, source, skew = 0, route, list;

  // swap puts nodes in place of others and keeps the keyboard where it was.
  const swap = (box, ...nodes) => {
    const key = box.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    box.replaceChildren(...nodes.flat(Infinity).filter(Boolean));
    if (key !== undefined) [...box.querySelectorAll("[data-key]")].find((e) => e.dataset.key === key)?.focus();
  };

  const where = () => {
    const [, page = "", ...rest] = location.hash.split("/");
    return {page, id: decodeURIComponent(rest.join("/"))};
  };

  const head = (title, facts) => {
    if ($("title").textContent !== title) $("title").textContent = title;
    document.title = title + " · TCP Fast Open fleet";
    $("facts").textContent = facts || "";
  };

  const draw = () => {
    const box = $("box"), now = Date.now() + skew;
    const {page, id} = route;
    if (page === "probes" && state.probes) {
      head("Probes", `${T.number(state.probes.filter((p) => p.connected === "yes").length)} of ${T.plural(state.probes.length, "probe")} connected, ${T.number(state.probes.filter((p) => p.ready === "yes").length)} ready`);
      swap(box, views.probes(state.probes, now));
    } else if (page === "probe" && state.probe !== undefined) {
      head(id);
      swap(box, state.probe ? views.probe(state.probe, now) : T.el("p", {class: "trouble"}, "There is no such probe."));
    } else if (page === "survey" && state.surveys) {
      const s = state.survey || state.surveys.find((s) => s.id === id);
      head(s ? s.name || s.id : id, s ? [s.id, s.created ? T.when(s.created) : "", s.mode === "copies" ? `each target by ${s.copies} probes` : s.mode === "every" ? "each target by every probe" : "each target once"].filter(Boolean).join(" · ") : "");
      swap(box, s ? views.survey(s, (v) => { list.filter(v); $("evidence").scrollIntoView(); }) : T.el("p", {class: "trouble"}, "There is no such survey."));
    } else if (page === "" && state.surveys) {
      head("Surveys", `${T.plural(state.surveys.filter((s) => s.phase === "running").length, "survey")} running`);
      swap(box, views.surveys(state.surveys));
    }
  };

  const listen = () => {
    source?.close();
    const {page, id} = route;
    source = new EventSource("events" + (page === "survey" || page === "probe" ? `?${page}=${encodeURIComponent(id)}` : ""));
    for (const name of ["surveys", "probes", "survey", "probe"]) {
      source.addEventListener(name, (e) => {
        const {now, state: s} = JSON.parse(e.data);
        skew = Date.parse(now) - Date.now();
        state[name] = s;
        draw();
        document.documentElement.dataset.ready = "yes";
      });
    }
    source.addEventListener("trouble", (e) => {
      const text = JSON.parse(e.data).state;
      $("trouble").hidden = !text;
      $("trouble").textContent = text;
    });
    source.addEventListener("open", () => { live.textContent = "live"; live.classList.add("on"); });
    source.addEventListener("error", () => { live.textContent = source.readyState === 2 ? "ended: load the page again" : "connecting …"; live.classList.remove("on"); });
  };

  const go = () => {
    if (location.hash === "#main") return; // the skip link
    route = where();
    state = {surveys: state.surveys, probes: state.probes};
    const section = {probes: "probes", probe: "probes"}[route.page] || "surveys";
    for (const a of document.querySelectorAll("[data-page]")) a.dataset.page === section ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
    main.replaceChildren(T.el("p", {id: "trouble", class: "trouble", role: "alert", hidden: true}), T.el("div", {id: "box"}));
    list = undefined;
    if (route.page === "survey") {
      list = T.measurements(route.id);
      main.append(T.el("section", {id: "evidence"}, T.el("div", {class: "line"}, T.el("h2", {}, "Measurements"), T.el("span", {class: "grow"}),
        T.el("a", {href: `surveys/${encodeURIComponent(route.id)}/report.html`, download: ""}, "Download the report")), list.node));
    }
    draw();
    listen();
  };

  document.querySelector("[data-skip]").addEventListener("click", (e) => {
    e.preventDefault();
    main.focus();
  });
  addEventListener("hashchange", () => { go(); $("title").focus(); });
  setInterval(() => document.activeElement?.closest("#box") || draw(), 5000); // what is so long ago
  go();
}
