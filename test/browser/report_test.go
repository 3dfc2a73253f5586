package browser

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"tfofleet/internal/measure"
	"tfofleet/internal/report/html"
	"tfofleet/internal/report/html/htmltest"
)

// reportFile makes the report of a generated survey.
func reportFile(t *testing.T, o html.Options, c htmltest.Config, change func(*html.Model)) string {
	t.Helper()
	dir := t.TempDir()
	if err := htmltest.Write(filepath.Join(dir, "survey"), c); err != nil {
		t.Fatal(err)
	}
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
	return path
}

// mesh is what a mesh of three probes would show.
func mesh(m *html.Model) {
	m.Mesh = []html.Pair{
		{From: "fra1", To: "nyc2", Port: 443, Family: 4, Verdict: "supported"},
		{From: "nyc2", To: "fra1", Port: 443, Family: 4, Verdict: "option_stripped", Direction: "forward"},
		{From: "fra1", To: "sgp3-lte", Port: 443, Family: 4, Verdict: "proxied"},
		{From: "sgp3-lte", To: "fra1", Port: 443, Family: 4, Verdict: "proxied"},
		{From: "nyc2", To: "sgp3-lte", Port: 443, Family: 4, Verdict: "supported"},
		{From: "sgp3-lte", To: "nyc2", Port: 443, Family: 4, Verdict: "cookie_stripped", Direction: "return"},
		{From: "fra1", To: "nyc2", Port: 80, Family: 6, Verdict: "supported"},
	}
}

var fleet = []string{"fra1", "nyc2", "sgp3-lte"}

const ready = `document.documentElement.dataset.ready === "yes"`

func TestPictures(t *testing.T) {
	if os.Getenv("TFOFLEET_SCREENSHOTS") == "" {
		t.SkipNow()
	}
	path := reportFile(t, html.Options{}, htmltest.Config{Seed: 1, Targets: 2000, Probes: fleet, Plan: measure.Thorough, Fault: 0.05}, mesh)
	b := open(t)
	b.size(1280, 900, false)
	b.visit("file://" + path)
	b.until(ready)
	sections := []string{"summary", "shares", "heat", "saved", "sizes", "mesh", "targets"}
	for _, dark := range []bool{false, true} {
		b.dark(dark)
		name := map[bool]string{false: "light", true: "dark"}[dark]
		b.size(1280, 900, false)
		b.do(`scrollTo(0, 0)`)
		b.picture(name+"-top", "")
		for _, s := range sections[1:] {
			b.picture(name+"-"+s, "#"+s)
		}
		b.do(`document.querySelector("tbody tr[data-row]").click()`)
		b.until(`document.querySelector("dialog .sequence")`)
		b.picture(name+"-dialog", "")
		b.do(`document.querySelector("dialog").close()`)
		b.size(360, 740, true)
		b.until(`document.querySelector(".chart svg").getBoundingClientRect().width < 360`)
		b.fits("phone")
		for _, s := range sections {
			b.picture("phone-"+name+"-"+s, "#"+s)
		}
		b.do(`document.querySelector("tbody tr[data-row]").click()`)
		b.until(`document.querySelector("dialog .sequence")`)
		b.picture("phone-"+name+"-dialog", "")
		b.fits("dialog")
		b.do(`document.querySelector("dialog").close()`)
	}
	b.quiet("file://")
}
