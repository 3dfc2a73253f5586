package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience is what a test may take on a busy machine before it hangs.
const patience = 2 * time.Minute

// tab is a page in a browser of its own, and what it did.
type tab struct {
	context.Context
	t *testing.T

	mu       sync.Mutex
	requests []string // that the page made or tried to make
	problems []string // exceptions, and what the console calls an error
}

// open starts a browser with an empty page.
func open(t *testing.T, more ...chromedp.ExecAllocatorOption) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program(t, "chromium", "chromium", "chromium-browser", "google-chrome")), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
	)
	options = append(options, more...)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	b := &tab{Context: ctx, t: t}
	t.Cleanup(func() { chromedp.Cancel(ctx) }) // it is gone before its directory is
	b.check(chromedp.Listen(ctx, b.event))
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	b.check(err)
	return b
}

// program is where a program is that Debian has in a package, by any of its
// names.
func program(t *testing.T, pkg string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	cannot(t, fmt.Sprintf("no %s: apt-get install %s", names[0], pkg))
	return ""
}

// cannot skips a test, or fails it where none may be skipped.
func cannot(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("TFOFLEET_REQUIRE_KERNEL") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func (b *tab) event(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, ev.Request.URL)
	case *network.EventWebSocketCreated:
		b.requests = append(b.requests, ev.URL)
	case *log.EventEntryAdded: // refusals of the policy are here
		if ev.Entry.Level == log.EntryLevelError {
			b.problems = append(b.problems, ev.Entry.Text)
		}
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, fmt.Sprintf("%s %v", ev.ExceptionDetails.Text, ev.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError {
			b.problems = append(b.problems, fmt.Sprint(ev.Args))
		}
	}
}

func (b *tab) check(err error) {
	b.t.Helper()
	if err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.t.Fatalf("%v; the page says: %q", err, b.problems)
	}
}

func (b *tab) visit(url string) {
	b.t.Helper()
	b.check(chromedp.Do(b, chromedp.Navigate(url)))
}

// eval runs JavaScript, a promise to its end, and returns what it gives.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	v, err := chromedp.Run(b, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	b.check(err)
	return v
}

// do runs JavaScript.
func (b *tab) do(script string) {
	b.t.Helper()
	eval[chromedp.Void](b, script)
}

// until waits for a condition of the page. The page asks itself: its policy
// forbids what chromedp would ask with.
func (b *tab) until(condition string) {
	b.t.Helper()
	script := fmt.Sprintf(`new Promise((done) => { const end = Date.now() + %d, ask = () => (%s) ? done(true) : Date.now() > end ? done(false) : setTimeout(ask, 10); ask(); })`,
		(patience / 2).Milliseconds(), condition)
	if !eval[bool](b, script) {
		b.check(fmt.Errorf("waited in vain for %s: %.1000q", condition, eval[string](b, `document.body.innerText`)))
	}
}

// press presses keys, one after the other, as a keyboard does: what a key types
// is not typed when the page has taken the key for something else.
func (b *tab) press(keys ...string) {
	b.t.Helper()
	for _, r := range strings.Join(keys, "") {
		k := kb.Keys[r]
		if k == nil {
			b.t.Fatalf("there is no key for %q", r)
		}
		for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
			p := input.DispatchKeyEventParams{Type: kind, Key: k.Key, Code: k.Code, WindowsVirtualKeyCode: k.Windows, NativeVirtualKeyCode: k.Native}
			if kind == input.DispatchKeyEventTypeKeyDown && k.Print {
				p.Text, p.UnmodifiedText = k.Text, k.Unmodified
			}
			_, err := chromedp.Call(b, input.DispatchKeyEvent, p)
			b.check(err)
		}
	}
}

// size makes it a window, or a phone.
func (b *tab) size(width, height int64, phone bool) {
	b.t.Helper()
	_, err := chromedp.Call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: phone})
	b.check(err)
}

func (b *tab) dark(on bool) {
	b.t.Helper()
	scheme := "light"
	if on {
		scheme = "dark"
	}
	_, err := chromedp.Call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	b.check(err)
}

// quiet fails the test if the page had an error, or asked for anything but
// what starts with one of the prefixes.
func (b *tab) quiet(allowed ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("the page says: %s", p)
	}
	for _, r := range b.requests {
		ok := strings.HasPrefix(r, "data:") || strings.HasPrefix(r, "blob:")
		for _, a := range allowed {
			ok = ok || strings.HasPrefix(r, a)
		}
		if !ok {
			b.t.Errorf("the page asked for %s", r)
		}
	}
}

// fits fails the test if the page is wider than its window.
func (b *tab) fits(what string) {
	b.t.Helper()
	if over := eval[int](b, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
		wide := eval[[]string](b, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll")).slice(0, 8).map(e => e.tagName + "." + e.getAttribute("class") + " " + Math.round(e.getBoundingClientRect().right) + " " + e.textContent.slice(0, 30))`)
		b.t.Errorf("%s: %d pixels wider than the window: %q", what, over, wide)
	}
}

// picture keeps what the page looks like, or the part of it that a selector
// names, where that was asked for.
func (b *tab) picture(name, selector string) {
	b.t.Helper()
	dir := os.Getenv("TFOFLEET_SCREENSHOTS")
	if dir == "" {
		return
	}
	shot := chromedp.CaptureScreenshot()
	if selector != "" {
		shot = chromedp.Screenshot(chromedp.CSS(selector))
	}
	png, err := chromedp.Run(b, shot)
	b.check(err)
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
