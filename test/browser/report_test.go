package browser

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/report/html"
	"tfofleet/internal/report/html/htmltest"
	"tfofleet/internal/report/origin"
)

const (
	arrowDown = kb.ArrowDown
	escape    = kb.Escape
)

var contains = strings.Contains

// reportFile makes the report of a generated survey.
func reportFile(t *testing.T, o html.Options, c htmltest.Config, change func(*html.Model)) string {
	t.Helper()
	dir := t.TempDir()
	if err := htmltest.Write(filepath.Join(dir, "survey"), c); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	m, err := html.Collect(context.Background(), o, filepath.Join(dir, "survey"))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(m)
	}
	path := filepath.Join(dir, "report.html")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.Write(f, o); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d measurements: report made in %v", m.Measurements, time.Since(began).Round(time.Millisecond))
	return path
}

// origins is a file of sixteen networks, each a sixteenth of IPv4.
func origins(t *testing.T) html.Options {
	t.Helper()
	var lines strings.Builder
	for i := range 16 {
		fmt.Fprintf(&lines, "%d.0.0.0/4,%d,%s\n", 16*i, 64496+i, []string{"DE", "US", "JP", "BR"}[i%4])
	}
	path := filepath.Join(t.TempDir(), "asn.txt")
	if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	table, err := origin.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return html.Options{Query: report.Query{Origin: table}}
}

// mesh is what a mesh of three probes would show.
func mesh(m *html.Model) {
	m.Mesh = []html.Pair{
		{From: "fra1", To: "nyc2", Port: 443, Family: 4, Verdict: "supported"},
		{From: "nyc2", To: "fra1", Port: 443, Family: 4, Verdict: "option_stripped", Fault: true, Direction: "forward"},
		{From: "fra1", To: "sgp3-lte", Port: 443, Family: 4, Verdict: "proxied", Fault: true},
		{From: "sgp3-lte", To: "fra1", Port: 443, Family: 4, Verdict: "proxied", Fault: true},
		{From: "nyc2", To: "sgp3-lte", Port: 443, Family: 4, Verdict: "supported"},
		{From: "sgp3-lte", To: "nyc2", Port: 443, Family: 4, Verdict: "cookie_stripped", Fault: true, Direction: "return"},
		{From: "fra1", To: "nyc2", Port: 8080, Family: 6, Verdict: "supported"},
	}
}

// hostile is names that try to get out of where they are put.
func hostile(i int) string {
	names := []string{
		`</script><script>window.hacked=1</script>`, `"><img src=http://192.0.2.1/x onerror=window.hacked=1>`, `<!--`, `'-alert(1)-'`, `{{.}}`,
		"line\u2028separator", "nul\x00byte", "<b>bold</b>", "\u202egnol.elpmaxe", strings.Repeat("long", 60) + ".example",
	}
	if i%3 == 0 {
		return names[i/3%len(names)]
	}
	return fmt.Sprintf("host%d.example", i)
}

var fleet = []string{"fra1", "nyc2", "sgp3-lte"}

const ready = `document.documentElement.dataset.ready === "yes"`

// TestReport does with a file what a person does: finds a target, opens what
// it stands on, by mouse and by keyboard, by day and by night, on a phone.
func TestReport(t *testing.T) {
	path := reportFile(t, origins(t), htmltest.Config{Seed: 1, Targets: 600, Probes: fleet, Plan: measure.Thorough, Fault: 0.06}, mesh)
	b := open(t)
	b.size(1280, 900, false)
	b.visit("file://" + path)
	b.until(ready)

	for _, id := range []string{"summary", "blame", "shares", "heat", "saved", "sizes", "mesh", "targets"} {
		if !eval[bool](b, `!!document.querySelector("main > #`+id+`") && !!document.querySelector("nav a[href='#`+id+`']")`) {
			t.Errorf("there is no section %s", id)
		}
	}
	b.until(`document.querySelectorAll("figure .chart svg").length >= 6`)
	if text := eval[string](b, `document.querySelector("#blame").innerText`); !contains(text, "Probe sgp3-lte sees option dropped everywhere") {
		t.Errorf("of blame: %s", text)
	}
	if n := eval[int](b, `document.querySelectorAll("#mesh .bad").length`); n != 4 {
		t.Errorf("%d pairs with a fault", n)
	}
	if !contains(eval[string](b, `document.querySelector("#mesh").innerText`), "nyc2 → fra1: option_stripped") {
		t.Error("the mesh does not call out what differs by direction")
	}

	// By keyboard alone: the skip link is first, / searches, arrows move, Enter
	// opens, Escape closes and the row has the focus again.
	b.press("\t")
	if !eval[bool](b, `document.activeElement.matches(".skip") && document.activeElement.getBoundingClientRect().left >= 0`) {
		t.Error("the skip link is not the first that Tab shows")
	}
	b.press("\r")
	b.until(`document.activeElement.id === "targets"`)
	name := eval[string](b, `document.querySelectorAll("#targets .host")[10].textContent`)
	b.press("/")
	b.until(`document.activeElement.id === "search"`)
	b.press(name)
	b.until(`(h => h.length > 0 && h.every(h => h.textContent === ` + fmt.Sprintf("%q", name) + `))([...document.querySelectorAll("#targets .host")])`)
	rows := eval[int](b, `document.querySelectorAll("#targets tbody tr").length`)
	if rows != len(fleet) {
		t.Errorf("%d rows of %s, of %d probes", rows, name, len(fleet))
	}
	b.press(arrowDown)
	b.until(`document.activeElement === document.querySelector("#targets tbody tr")`)
	b.press(arrowDown, "\r")
	b.until(`document.querySelectorAll("dialog[open] .sequence").length > 2`)
	if second := eval[string](b, `document.querySelectorAll("#targets tbody tr")[1].children[2].textContent`); !contains(eval[string](b, `document.querySelector("dialog .sub").textContent`), "from "+second) {
		t.Error("another row was opened than the one with the focus")
	}
	drawing := eval[string](b, `document.querySelector("dialog .attempt:nth-of-type(2) .sequence").getAttribute("aria-label")`)
	for _, want := range []string{"probe sends SYN: TFO 34", "target sends"} {
		if !contains(drawing, want) {
			t.Errorf("the drawing shows %q, not %q", drawing, want)
		}
	}
	if !eval[bool](b, `location.hash.startsWith("#m")`) {
		t.Error("what is open has no address")
	}
	b.press(escape)
	// The dialog gives the focus back before the page hears that it is closed,
	// takes the address away and moves the focus itself.
	b.until(`location.hash === "" && document.activeElement === document.querySelectorAll("#targets tbody tr")[1]`)
	if !eval[bool](b, `getComputedStyle(document.activeElement).outlineStyle !== "none"`) {
		t.Error("one cannot see where the focus is")
	}

	// From an example of blame to what was measured of it.
	b.do(`document.querySelector("#blame .examples").open = true`)
	if !eval[bool](b, `!!document.querySelector("#blame .examples strong")`) {
		t.Error("no example says what the blame stands on")
	}
	b.do(`document.querySelector("#blame .examples button").click()`)
	b.until(`document.activeElement.id === "search" && document.querySelector("#blame .examples button").textContent.startsWith(document.querySelector("#search").value + ",")`)
	b.until(`document.querySelectorAll("#targets tbody tr").length >= ` + fmt.Sprint(len(fleet)))

	// Sorting and the pages of the table.
	b.do(`(s => { s.value = ""; s.dispatchEvent(new Event("input")) })(document.querySelector("#search"))`)
	b.until(`document.querySelectorAll("#targets tbody tr").length === 50`)
	b.do(`document.querySelector("[data-key=rtt] button").click()`)
	b.until(`document.querySelector("[data-key=rtt]").getAttribute("aria-sort") === "descending"`)
	if !eval[bool](b, `(v => v.every((x, i) => !i || x <= v[i - 1]))([...document.querySelectorAll("#targets tbody tr")].map(r => parseFloat(r.children[3].textContent) * (r.children[3].textContent.endsWith(" s") ? 1000 : 1)))`) {
		t.Error("not sorted by round trip")
	}
	b.do(`document.querySelector(".pager button:last-child").click()`)
	b.until(`document.querySelector(".pager").textContent.includes("page 2 of")`)

	// Every figure has its numbers; every choice draws again.
	b.do(`document.querySelectorAll("details").forEach(d => d.open = true)`)
	b.until(`[...document.querySelectorAll("figure details")].every(d => d.querySelector("td"))`)
	b.do(`document.querySelectorAll("figure select").forEach(s => { for (const o of s.options) { s.value = o.value; s.dispatchEvent(new Event("change")) } })`)
	b.do(`document.querySelectorAll("details").forEach(d => d.open = false)`)

	// Day and night.
	paper := `getComputedStyle(document.body).backgroundColor`
	b.dark(false)
	day := eval[string](b, paper)
	b.dark(true)
	if night := eval[string](b, paper); night == day {
		t.Errorf("%s by day and by night", night)
	}
	for _, dark := range []bool{false, true} {
		b.dark(dark)
		if low := eval[[]string](b, contrast); len(low) > 0 {
			t.Errorf("dark %v: hard to read: %q", dark, low)
		}
	}
	b.dark(false)

	b.size(360, 740, true)
	b.until(`document.querySelector(".chart svg").getBoundingClientRect().width < 360`)
	b.fits("phone")
	b.do(`document.querySelector("tbody tr[data-row]").click()`)
	b.until(`document.querySelector("dialog .sequence")`)
	b.fits("phone, with a target open")
	if over := eval[int](b, `Math.max(...[...document.querySelectorAll("dialog .sequence")].map(s => Math.round(s.getBoundingClientRect().right))) - 360`); over > 0 {
		t.Errorf("a drawing is %d pixels wider than a phone", over)
	}
	b.quiet("file://" + path)
}

// contrast finds text with less contrast than WCAG 2.2 asks for (4.5:1), where
// its background is a plain colour.
const contrast = `(() => {
  const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number).map((v, i) => (c.startsWith("color(srgb") && i < 3 ? 255 * v : v));
  const lum = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length && (c.length < 4 || c[3] === 1)) return c; } return [255, 255, 255]; };
  const low = [];
  for (const e of document.querySelectorAll("h1, h2, h3, p, th, td, dt, dd, li, a, button:not(:disabled), label span, .strip span span, .tile span")) {
    if (!e.checkVisibility() || !e.textContent.trim()) continue;
    const a = lum(parse(getComputedStyle(e).color)), b = lum(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(e.tagName + " " + e.textContent.slice(0, 20) + " " + ratio.toFixed(1));
  }
  return low.slice(0, 8);
})()`

// TestHostile puts names into a report that would run if they were anything
// but text.
func TestHostile(t *testing.T) {
	path := reportFile(t, html.Options{},
		htmltest.Config{Seed: 2, Targets: 90, Probes: []string{`<img src=x onerror=hacked=1>`}, Plan: measure.Standard, Fault: 0.4, Hosts: hostile}, nil)
	b := open(t)
	b.size(360, 740, true)
	b.visit("file://" + path)
	b.until(ready)
	b.fits("long names")
	want := eval[[]string](b, `[...document.querySelectorAll("#targets .host")].map(e => e.textContent)`)
	found := strings.Join(want, "\n")
	for _, name := range []string{hostile(0), hostile(3), hostile(6)} {
		if !contains(found, name) {
			t.Errorf("%q is not in the table as it is", name)
		}
	}
	for row := range 20 {
		b.do(fmt.Sprintf(`document.querySelectorAll("tbody tr[data-row]")[%d].click()`, row))
		b.until(`document.querySelector("dialog").open && document.querySelector("dialog .evidence")`)
		b.do(`document.querySelector("dialog").close()`)
		b.until(`location.hash === ""`)
	}
	b.do(`document.querySelectorAll("details").forEach(d => d.open = true)`)
	if eval[bool](b, `"hacked" in window || document.querySelectorAll("img").length > 0`) {
		t.Error("a name became markup")
	}
	b.quiet("file://" + path)
}

// TestNothing opens the report of a survey that has measured nothing yet.
func TestNothing(t *testing.T) {
	path := reportFile(t, html.Options{}, htmltest.Config{Seed: 3, Probes: fleet, Plan: measure.Standard}, mesh)
	b := open(t)
	b.visit("file://" + path)
	b.until(ready)
	if text := eval[string](b, `document.querySelector("#summary").innerText`); !contains(text, "No target was measured.") {
		t.Errorf("of nothing: %s", text)
	}
	if ids := eval[[]string](b, `[...document.querySelectorAll("main > section")].map((s) => s.id)`); strings.Join(ids, " ") != "summary mesh" {
		t.Errorf("sections %v", ids)
	}
	b.quiet("file://" + path)
}

// TestLarge opens the report of a survey of 100,000 targets.
func TestLarge(t *testing.T) {
	const targets = 100_000
	path := reportFile(t, html.Options{}, htmltest.Config{Seed: 5, Targets: targets, Probes: []string{"fra1"}, Plan: measure.Standard, Fault: 0.06}, nil)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() >= 20_000_000 {
		t.Errorf("the file has %d bytes", info.Size())
	}
	b := open(t)
	b.size(1280, 900, false)
	b.visit("about:blank")
	began := time.Now()
	b.visit("file://" + path)
	b.until(ready)
	took := time.Since(began)
	busy := eval[float64](b, `performance.now()`)
	began = time.Now()
	b.do(`(s => { s.value = "northlight .org supported"; s.dispatchEvent(new Event("input")) })(document.querySelector("#search"))`)
	b.until(`document.querySelector("#targets .over p").textContent.includes(" of 100,000")`)
	t.Logf("%d targets: %.1f MB, open and drawn in %v (%.0f ms by the page's own clock), a search in %v", targets, float64(info.Size())/1e6, took.Round(time.Millisecond), busy, time.Since(began).Round(time.Millisecond))
	if took > 3*time.Second {
		t.Errorf("opened in %v: more than 3 s", took)
	}
	if text := eval[string](b, `document.querySelector("#kept").textContent`); !contains(text, "100,000 measurements") || !contains(text, "random sample") {
		t.Errorf("the page says of what it lacks: %q", text)
	}
	b.quiet("file://" + path)
}

// TestPictures keeps pictures of every section, for people to look at.
func TestPictures(t *testing.T) {
	if os.Getenv("TFOFLEET_SCREENSHOTS") == "" {
		return
	}
	path := reportFile(t, origins(t), htmltest.Config{Seed: 1, Targets: 800, Probes: fleet, Plan: measure.Thorough, Fault: 0.05}, mesh)
	b := open(t)
	b.visit("file://" + path)
	b.until(ready)
	sections := []string{"summary", "blame", "shares", "heat", "saved", "sizes", "mesh", "targets"}
	for _, dark := range []bool{false, true} {
		b.dark(dark)
		name := map[bool]string{false: "light", true: "dark"}[dark]
		for _, width := range []int64{1280, 360} {
			b.size(width, 900, width == 360)
			b.until(fmt.Sprintf(`Math.abs(document.querySelector(".chart svg").getBoundingClientRect().width - document.querySelector(".chart").clientWidth) < 3 && innerWidth === %d`, width))
			for _, s := range sections {
				b.picture(fmt.Sprintf("report-%s-%d-%s", name, width, s), "#"+s)
			}
			b.do(`document.querySelector("tbody tr[data-row]").click()`)
			b.until(`document.querySelector("dialog .sequence")`)
			b.picture(fmt.Sprintf("report-%s-%d-dialog", name, width), "")
			b.do(`document.querySelector("dialog").close()`)
			b.until(`location.hash === ""`)
		}
	}
}
