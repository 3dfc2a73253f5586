package fleettest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tfofleet/internal/fleettest"
	"tfofleet/internal/identity"
)

// TestSecretsAreNotLogged: with every line that the programs can log, while a
// probe joins, works and comes back, none has the secret of a token or a piece of
// a key, in any spelling.
func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t, 60)
	c := f.AddController("--log-level", "trace")
	text := f.Token("p01", f.Controllers)
	p := f.NewProbe(150, "--log-level", "trace", "--join", text)
	p.Start()
	f.Survey(c, 60, "--rate", "150", "--concurrency", "8").Done(fleettest.Patience)
	p.Kill()
	p.Start()
	p.Info()
	f.End()

	token, err := identity.ParseJoinToken(text)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{"the token's secret": token.Secret.Reveal()}
	if !spelt(text, secrets["the token's secret"]) {
		t.Error("the secret is not found where it is")
	}
	for _, dir := range []string{c.Data(), p.Data()} {
		for name, key := range keys(t, dir) {
			secrets[name] = key
		}
	}
	if len(secrets) < 4 {
		t.Errorf("there are more secrets than %d", len(secrets))
	}
	for who, said := range map[string]string{c.Name: c.Said(), p.Name: p.Said()} {
		if !strings.Contains(said, "[TRACE]") && !strings.Contains(said, "[DEBUG]") {
			t.Errorf("%s did not log everything", who)
		}
		for what, secret := range secrets {
			if spelt(said, secret) {
				t.Errorf("%s logged %s", who, what)
			}
		}
	}
}

// spelt reports whether a text has the secret bytes, or most of one half of them:
// base64 in lines may have a break in the other.
func spelt(text string, secret []byte) bool {
	half := len(secret) / 2
	if half < 16 {
		half = len(secret)
	}
	for piece := range slices.Chunk(secret, half) {
		for _, s := range spellings(piece) {
			if strings.Contains(text, s) {
				return true
			}
		}
	}
	return false
}

// spellings are how programs write bytes.
func spellings(b []byte) []string {
	all := []string{string(b), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), strings.Trim(fmt.Sprint(b), "[]")}
	// In the middle of a longer text, bytes are written in one of as many ways as
	// there are places to begin; the last letters depend on what follows.
	for skip := range 5 {
		all = append(all, trim(base64.RawStdEncoding.EncodeToString(b[skip:])), trim(base64.RawURLEncoding.EncodeToString(b[skip:])),
			trim(strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[skip:]))))
	}
	return all
}

func trim(s string) string { return s[:len(s)-2] }

// keys are the private keys in the files of a directory, and the test fails when
// others can read one.
func keys(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(data, []byte("PRIVATE KEY")) {
			return err
		}
		if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s holds a key and has mode %v, %v", path, info.Mode(), err)
		}
		for i, key := range keysIn(t, data) {
			found[fmt.Sprint("key ", i, " of ", path)] = key
			if !spelt(strings.ReplaceAll(string(data), `\n`, "\n"), key) {
				t.Errorf("a key in %s is not found where it is", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// keysIn finds what is secret in the PEM blocks of a file, also within the strings
// of JSON.
func keysIn(t *testing.T, data []byte) (all [][]byte) {
	t.Helper()
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		case string:
			for block, rest := pem.Decode([]byte(v)); block != nil; block, rest = pem.Decode(rest) {
				if !strings.Contains(block.Type, "PRIVATE KEY") {
					continue
				}
				key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
				if err != nil {
					t.Fatal(err)
				}
				switch key := key.(type) {
				case ed25519.PrivateKey:
					all = append(all, key.Seed())
				case *ecdsa.PrivateKey:
					d, err := key.Bytes()
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, d)
				}
			}
		}
	}
	var doc any
	if json.Unmarshal(data, &doc) != nil {
		doc = string(data)
	}
	walk(doc)
	if len(all) == 0 {
		t.Error("a key that cannot be found")
	}
	return all
}

// TestKeyFiles: a file with a key that others can read, or could exchange, is
// refused at the start, with the words that mend it.
func TestKeyFiles(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t, 1)
	c := f.AddController()
	p := f.AddProbe(1, f.Controllers)
	f.Connected()
	f.End()
	refused := func(path string, mode os.FileMode, launch func(), process func() *fleettest.Process) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		launch()
		f.Await("the end of a program that must not start", fleettest.Patience, func() bool { over, _ := process().Ended(); return over })
		if _, err := process().Ended(); err == nil || !process().Says("chmod") || !process().Says(path) {
			t.Errorf("%s with mode %v: %v", path, mode, err)
		}
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	probe := func() *fleettest.Process { return p.Process }
	for _, name := range []string{"identity.key", "credential.json"} {
		refused(filepath.Join(p.Data(), "identity", name), 0o640, p.Launch, probe)
	}
	refused(filepath.Join(p.Data(), "identity"), 0o777, p.Launch, probe)
	refused(filepath.Join(c.Data(), "ca", "ca.json"), 0o604, c.Launch, func() *fleettest.Process { return c.Process })
	c.Start()
	p.Start()
	f.End()
}
