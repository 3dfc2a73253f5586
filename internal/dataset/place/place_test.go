package place

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tfofleet/internal/dataset/place/s3test"
)

// each runs a test in a directory and in a bucket.
func each(t *testing.T, test func(t *testing.T, where string)) {
	t.Run("directory", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "deep", "dir")) })
	t.Run("bucket", func(t *testing.T) { test(t, s3test.Start(t).URL("deep/dir")) })
}

func at(t testing.TB, where string) Place {
	t.Helper()
	p, err := At(where)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Prepare("sub"); err != nil {
		t.Fatal(err)
	}
	return p
}

// named is a finished file and its name.
type named struct {
	File
	name string
}

func (n named) Create() error  { return n.File.Create(path.Base(n.name)) }
func (n named) Replace() error { return n.File.Replace(path.Base(n.name)) }

// written is a finished file.
func written(t testing.TB, p Place, name string, content []byte) named {
	t.Helper()
	dir := strings.TrimSuffix(strings.TrimSuffix(name, path.Base(name)), "/")
	f, err := p.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	return named{f, name}
}

func content(t testing.TB, p Place, name string) string {
	t.Helper()
	b, err := p.Load(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	again, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("opened %s is not what was loaded: %v", name, err)
	}
	return string(b)
}

func names(t testing.TB, p Place, dir string) (names []string) {
	t.Helper()
	infos, err := p.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		names = append(names, i.Name)
	}
	slices.Sort(names)
	return names
}

func TestCreateOnceReplaceAlways(t *testing.T) {
	each(t, func(t *testing.T, where string) {
		p := at(t, where)
		if _, err := p.Load("sub/a", nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), p.Path("sub/a")) {
			t.Errorf("load nothing: %v", err)
		}
		if _, err := p.Open("sub/a"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open nothing: %v", err)
		}
		if _, _, err := p.Tail("sub/a", 1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("tail of nothing: %v", err)
		}
		f := written(t, p, "sub/a", []byte("one"))
		if have, err := p.Has("sub/a"); have || err != nil || len(names(t, p, "sub")) != 0 {
			t.Errorf("before it is published: %v, %v", have, err)
		}
		if err := f.Create(); err != nil {
			t.Fatal(err)
		}
		f.Discard()
		f = written(t, p, "sub/a", []byte("another"))
		if err := f.Create(); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), p.Path("sub/a")) {
			t.Errorf("create again: %v", err)
		}
		f.Discard()
		if got := content(t, p, "sub/a"); got != "one" {
			t.Errorf("after a second creation: %q", got)
		}
		f = written(t, p, "sub/a", []byte("two!"))
		if err := f.Replace(); err != nil {
			t.Fatal(err)
		}
		f.Discard()
		if got := content(t, p, "sub/a"); got != "two!" {
			t.Errorf("after a replacement: %q", got)
		}
		if tail, size, err := p.Tail("sub/a", 3); string(tail) != "wo!" || size != 4 || err != nil {
			t.Errorf("tail: %q of %d, %v", tail, size, err)
		}
		if tail, size, err := p.Tail("sub/a", 9); string(tail) != "two!" || size != 4 || err != nil {
			t.Errorf("tail: %q of %d, %v", tail, size, err)
		}
		if got := names(t, p, "sub"); !slices.Equal(got, []string{"a"}) {
			t.Errorf("listed %q", got)
		}
		if dirs, err := p.Dirs(); !slices.Equal(dirs, []string{"sub"}) || err != nil {
			t.Errorf("directories: %q, %v", dirs, err)
		}
		if got := names(t, p, "nowhere"); got != nil {
			t.Errorf("listed %q", got)
		}
		for range 2 {
			if err := p.Remove("sub/a"); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := p.Has("sub/a"); have || err != nil {
			t.Errorf("after it was removed: %v, %v", have, err)
		}
	})
}

// Of many who create one file at the same time, one wins, and it is its content
// that stays.
func TestOneCreatorWins(t *testing.T) {
	each(t, func(t *testing.T, where string) {
		p := at(t, where)
		for round := range 10 {
			name := fmt.Sprintf("sub/%d", round)
			var won atomic.Pointer[string]
			var wg sync.WaitGroup
			for i := range 8 {
				mine := strings.Repeat(string(rune('a'+i)), 20000)
				f := written(t, p, name, []byte(mine))
				wg.Go(func() {
					defer f.Discard()
					err := f.Create()
					switch {
					case err == nil && !won.CompareAndSwap(nil, &mine):
						t.Errorf("%s: two have won", name)
					case err != nil && !errors.Is(err, fs.ErrExist):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if w := won.Load(); w == nil || content(t, p, name) != *w {
				t.Fatalf("%s: what is there is not the winner's", name)
			}
		}
	})
}

// An empty file is a file.
func TestEmpty(t *testing.T) {
	each(t, func(t *testing.T, where string) {
		p := at(t, where)
		f := written(t, p, "e", nil)
		defer f.Discard()
		if err := f.Create(); err != nil {
			t.Fatal(err)
		}
		if got := content(t, p, "e"); got != "" {
			t.Errorf("%q", got)
		}
	})
}

func TestCopy(t *testing.T) {
	each(t, func(t *testing.T, where string) {
		from, to := at(t, Join(where, "from")), at(t, Join(where, "to"))
		if ok, err := to.Copy(from, "x"); ok || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("copy of nothing: %v, %v", ok, err)
		}
		if err := written(t, from, "x", []byte("abc")).Create(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if ok, err := to.Copy(from, "x"); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		if got := content(t, to, "x"); got != "abc" {
			t.Errorf("%q", got)
		}
	})
}

// What another process may still be writing stays.
func TestAbandonedFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{"old": 2 * time.Hour, "young": 10 * time.Minute} {
		for _, sub := range []string{"", "sub"} {
			path := filepath.Join(dir, sub, tempPrefix+name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			then := time.Now().Add(-age)
			if err := os.Chtimes(path, then, then); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := at(t, dir)
	for _, sub := range []string{"", "sub"} {
		if got, _ := filepath.Glob(filepath.Join(dir, sub, tempPrefix+"*")); len(got) != 1 || filepath.Base(got[0]) != tempPrefix+"young" {
			t.Errorf("left in %q: %q", sub, got)
		}
		if got := names(t, p, sub); got != nil {
			t.Errorf("listed %q", got)
		}
	}
}

func TestJoin(t *testing.T) {
	for _, c := range []struct{ where, want string }{
		{"a/b", "a/b/lists/7"}, {"a/b/", "a/b/lists/7"}, {"/", "/lists/7"},
		{"s3://b", "s3://b/lists/7"}, {"s3://b/p/", "s3://b/p/lists/7"},
		{"s3://b/p?endpoint=http://h:1&region=r", "s3://b/p/lists/7?endpoint=http://h:1&region=r"},
	} {
		if got := Join(c.where, "lists", "7"); got != c.want {
			t.Errorf("Join(%q) = %q, want %q", c.where, got, c.want)
		}
	}
}

func TestBadURLs(t *testing.T) {
	for _, c := range []struct{ where, want string }{
		{"s3://", "no bucket"}, {"s3:///p", "no bucket"}, {"s3://b/../c", "is no path"}, {"s3://b/a//c", "is no path"},
		{"s3://key:hidden@b/p", "credentials"}, {"s3://b?token=hidden", "unknown parameter"}, {"s3://b:hidden/\x7f", "not a URL"},
		{"s3://b?endpoint=ftp://h", "the form https"}, {"s3://b?endpoint=http://h/path", "the form https"}, {"s3://b?endpoint=http://u:hidden@h", "the form https"},
	} {
		if _, err := At(c.where); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v, want %q", c.where, err, c.want)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"s3://b", "s3://b/p/q?endpoint=https://h:1&region=r", "s3://u:p@b/../x", "s3://b/%2e%2e/x", "s3://b/a%00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, where string) {
		u, err := parseURL(where)
		if err != nil {
			return
		}
		if u.bucket == "" || u.prefix != "" && (!strings.HasSuffix(u.prefix, "/") || !fs.ValidPath(strings.TrimSuffix(u.prefix, "/"))) {
			t.Errorf("%q: %+v", where, u)
		}
	})
}
