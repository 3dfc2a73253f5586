package identity_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tfofleet/internal/identity"
)

func (c *controller) caPath() string { return filepath.Join(c.dir, "ca.json") }

func (c *controller) readCA() []byte {
	c.t.Helper()
	data, err := os.ReadFile(c.caPath())
	ok(c.t, err)
	return data
}

func (c *controller) writeCA(data []byte) {
	c.t.Helper()
	ok(c.t, os.WriteFile(c.caPath(), data, 0o600))
}

// TestFirstStart: made once, closed to others, the same ever after.
func TestFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "ca")
	ca, err := identity.OpenCA(dir, time.Now())
	ok(t, err)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "ca.json"): 0o600} {
		info, err := os.Stat(path)
		ok(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
	again, err := identity.OpenCA(dir, time.Now())
	ok(t, err)
	if ca.Fleet() != again.Fleet() || ca.Pin() != again.Pin() || !identity.ValidName(ca.Fleet()) {
		t.Errorf("fleet %s, then %s", ca.Fleet(), again.Fleet())
	}
	entries, err := os.ReadDir(dir)
	ok(t, err)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	root, err := x509.ParseCertificate(ca.Bundle()[0])
	ok(t, err)
	if left := time.Until(root.NotAfter); left < 9*365*day {
		t.Errorf("the root is good for %v", left)
	}
}

// TestFirstStartTwice: processes that start at once end up with one CA.
func TestFirstStartTwice(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	pins := make([]identity.Hash, 8)
	for i := range pins {
		wg.Go(func() {
			ca, err := identity.OpenCA(dir, time.Now())
			if err != nil {
				t.Error(err)
				return
			}
			pins[i] = ca.Pin()
		})
	}
	wg.Wait()
	for _, p := range pins {
		if p != pins[0] {
			t.Fatal("two CAs were made")
		}
	}
}

// TestModes: what others could read or exchange is refused, with what to do.
func TestModes(t *testing.T) {
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o777, 0o620} {
		c := newController(t)
		ok(t, os.Chmod(c.caPath(), mode))
		_, err := identity.OpenCA(c.dir, time.Now())
		if !errors.Is(err, identity.ErrMode) || !contains(err.Error(), "chmod 600 "+c.caPath()) {
			t.Errorf("mode %04o: %v", mode, err)
		}
		ok(t, os.Chmod(c.caPath(), 0o600))
		ok(t, os.Chmod(c.dir, 0o777))
		_, err = identity.OpenCA(c.dir, time.Now())
		if !errors.Is(err, identity.ErrMode) || !contains(err.Error(), "chmod go-w "+c.dir) {
			t.Errorf("directory: %v", err)
		}
	}
	dir := filepath.Join(t.TempDir(), "open")
	ok(t, os.Mkdir(dir, 0o777))
	ok(t, os.Chmod(dir, 0o777))
	if _, err := identity.OpenCA(dir, time.Now()); !errors.Is(err, identity.ErrMode) {
		t.Errorf("first start in an open directory: %v", err)
	}
	c := newController(t)
	ok(t, os.Remove(c.caPath()))
	ok(t, os.Mkdir(c.caPath(), 0o700))
	if _, err := identity.OpenCA(c.dir, time.Now()); err == nil {
		t.Error("a directory in the file's place was taken")
	}
}

// TestDamagedCA: every damage is found at the start, or does not matter.
func TestDamagedCA(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := newController(t)
	ok(t, c.ca.Advance(c.clock.Now(), false))
	ok(t, c.ca.Advance(c.clock.Now(), false))
	whole, pin := c.readCA(), c.ca.Pin()
	check := func(what string, data []byte) {
		t.Helper()
		c.writeCA(data)
		ca, err := identity.OpenCA(c.dir, time.Now())
		if err == nil && (ca.Pin() != pin || ca.Fleet() != c.ca.Fleet()) {
			t.Errorf("%s: opened as another CA", what)
		}
		if err != nil && !contains(err.Error(), "backup") {
			t.Errorf("%s: no next step in %q", what, err)
		}
		if err != nil {
			for _, line := range strings.Split(string(whole), `\n`) {
				if len(line) > 30 && !contains(line, "-----") && contains(err.Error(), line) {
					t.Errorf("%s: the error quotes the file", what)
				}
			}
		}
	}
	for range 100 {
		n := r.IntN(len(whole))
		check("cut off", whole[:n])
		flipped := bytes.Clone(whole)
		flipped[n] ^= 1 << r.IntN(7)
		check("one bit", flipped)
	}
	check("empty", nil)
	check("zeros", make([]byte, len(whole)))
	ok(t, os.WriteFile(c.caPath(), whole, 0o600))
	_, err := identity.OpenCA(c.dir, time.Now())
	ok(t, err)
}
