package targets

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"tfofleet/internal/measure"
)

// A list with one of everything, as files come from other systems.
const mixedList = "\ufeffrank,domain\r\n" +
	"1,google.com\r\n" +
	"# by hand\n" +
	"192.0.2.0/31\n" +
	"\n" +
	"not a host\n" +
	`{"ip":"2001:db8::1","port":80,"domain":"v6.example"}` + "\n" +
	"2001:db8::/64\n" +
	"last.example:8443" // no line end

var mixedTargets = []string{
	"google.com:443", "192.0.2.0:443", "192.0.2.1:443",
	`{"ip":"2001:db8::1","port":80,"domain":"v6.example"}`, "last.example:8443",
}

var mixedStats = ReadStats{Lines: 9, Targets: 5, Bad: 2, Blank: 3}

func TestMixed(t *testing.T) {
	got, st, bad := readAll(t, mixedList, ReadOptions{Ports: []uint16{443}})
	if !slices.Equal(got, mixedTargets) || st != mixedStats {
		t.Errorf("targets %q, %+v", got, st)
	}
	want := []string{
		"list:6: character ' ' can not be in a host name: not a host",
		"list:8: a block of 2^64 addresses is too large, the limit is 2^32: 2001:db8::/64",
	}
	for i := range bad {
		if bad[i].Error() != want[i] {
			t.Errorf("got  %s\nwant %s", bad[i].Error(), want[i])
		}
	}
}

func TestFamily(t *testing.T) {
	const list = "192.0.2.0/31\n2001:db8::/127\n::ffff:192.0.2.9\nname.example\n"
	for _, tt := range []struct {
		family Family
		want   []string
		other  int64
	}{
		{AnyFamily, []string{"192.0.2.0:1", "192.0.2.1:1", "[2001:db8::]:1", "[2001:db8::1]:1", "192.0.2.9:1", "name.example:1"}, 0},
		{IPv4, []string{"192.0.2.0:1", "192.0.2.1:1", "192.0.2.9:1", "name.example:1"}, 1},
		{IPv6, []string{"[2001:db8::]:1", "[2001:db8::1]:1", "name.example:1"}, 2},
	} {
		got, st, bad := readAll(t, list, ReadOptions{Ports: []uint16{1}, Family: tt.family})
		if !slices.Equal(got, tt.want) || st.OtherFamily != tt.other || len(bad) != 0 || st.Lines != 4 {
			t.Errorf("family %d: %q, %+v, %v", tt.family, got, st, bad)
		}
	}
}

// The limit is on the line without its end, whatever the end is.
func TestLongestLine(t *testing.T) {
	for _, end := range []string{"\n", "\r\n", ""} {
		for _, tt := range []struct {
			n    int
			want ReadStats
		}{
			{maxLine, ReadStats{Lines: 1, Targets: 1}},
			{maxLine + 1, ReadStats{Lines: 1, Bad: 1}},
			{maxLine + 2, ReadStats{Lines: 1, Bad: 1}},
			{maxLine + 3, ReadStats{Lines: 1, Bad: 1}},
		} {
			line := "a.example #"
			line += strings.Repeat("x", tt.n-len(line))
			if _, st, _ := readAll(t, line+end, ReadOptions{Ports: []uint16{1}}); st != tt.want {
				t.Errorf("%d bytes and %q: %+v", tt.n, end, st)
			}
		}
	}
}

func TestStrict(t *testing.T) {
	told := 0
	opts := ReadOptions{Ports: []uint16{1}, Strict: true, OnBad: func(*LineError) { told++ }}
	st, err := Read(strings.NewReader("a.example\n\nb example\nc example\n"), "my list", opts, func(measure.Target) error { return nil })
	var bad *LineError
	if !errors.As(err, &bad) || bad.Line != 3 || bad.File != "my list" || told != 0 {
		t.Errorf("error %v, told %d times", err, told)
	}
	if want := (ReadStats{Lines: 3, Targets: 1, Bad: 1, Blank: 1}); st != want {
		t.Errorf("stats %+v", st)
	}
}

// What comes from a file must not reach a terminal as it is.
func TestShownText(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"\x1b[31mred\x07", `\x1b[31mred\a`},
		{"a\u202eb", `a\u202eb`},
		{"bücher", "bücher"},
		{strings.Repeat("x", 81), strings.Repeat("x", 80) + "..."},
		{strings.Repeat("x", 79) + "üy", strings.Repeat("x", 79) + "..."},
		{"\xff\xfe", `\xff\xfe`},
	} {
		if got := shorten(tt.line); got != tt.want {
			t.Errorf("%q is shown as %s, want %s", tt.line, got, tt.want)
		}
	}
}

func compress(t testing.TB, format, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case "plain":
		return []byte(text)
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	case "zip":
		archive := zip.NewWriter(&b)
		defer archive.Close()
		var f io.Writer
		if f, err = archive.Create("top-1m.csv"); err == nil {
			_, err = io.WriteString(f, text)
		}
		if err == nil {
			err = archive.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCompressed(t *testing.T) {
	collect := func(r io.Reader) ([]string, error) {
		var got []string
		_, err := Read(r, "list", ReadOptions{Ports: []uint16{443}}, func(tg measure.Target) error {
			got = append(got, Format(tg))
			return nil
		})
		return got, err
	}
	for _, format := range []string{"plain", "gzip", "zstd", "zip"} {
		t.Run(format, func(t *testing.T) {
			data := compress(t, format, mixedList)
			got, err := collect(bytes.NewReader(data))
			if err != nil || !slices.Equal(got, mixedTargets) {
				t.Errorf("from memory: %q, %v", got, err)
			}

			name := filepath.Join(t.TempDir(), "list")
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, err = collect(f)
			if err != nil || !slices.Equal(got, mixedTargets) {
				t.Errorf("from a file: %q, %v", got, err)
			}

			got, err = collect(iotest.OneByteReader(bytes.NewReader(data)))
			if format == "zip" {
				if err == nil || !strings.Contains(err.Error(), "can not be read from a pipe: name the file, or unpack it first") {
					t.Errorf("from a pipe: %v", err)
				}
			} else if err != nil || !slices.Equal(got, mixedTargets) {
				t.Errorf("from a pipe: %q, %v", got, err)
			}

			if format == "plain" {
				return
			}
			// A file that was cut off is an error, not a shorter list.
			if _, err = collect(bytes.NewReader(data[:len(data)-9])); err == nil || !strings.HasPrefix(err.Error(), "list: ") {
				t.Errorf("cut off: %v", err)
			}
		})
	}
}

func TestZipOfSeveral(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range []string{"a", "b"} {
		if _, err := w.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Read(bytes.NewReader(b.Bytes()), "top.zip", ReadOptions{}, nil)
	if err == nil || err.Error() != "top.zip: the zip archive holds 2 files instead of one list: unpack it first" {
		t.Error(err)
	}
}

// A zstd stream says how much memory it needs; only a modest one gets it.
func TestZstdWindow(t *testing.T) {
	for _, tt := range []struct {
		window int
		want   error
	}{
		{8 << 20, nil}, // zstd -19
		{64 << 20, zstd.ErrWindowSizeExceeded},
	} {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b, zstd.WithWindowSize(tt.window))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a frame that was flushed is not of known size
			if _, err := io.WriteString(w, "a.example:1\n"); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(&b, "list", ReadOptions{}, func(measure.Target) error { return nil }); !errors.Is(err, tt.want) {
			t.Errorf("window of %d MiB: %v", tt.window>>20, err)
		}
	}
}

func TestUTF16(t *testing.T) {
	_, err := Read(strings.NewReader("\xff\xfea\x00.\x00b\x00"), "list", ReadOptions{}, nil)
	if err == nil || err.Error() != "list: the list is UTF-16 text: save it as UTF-8" {
		t.Error(err)
	}
}

func TestReadErrors(t *testing.T) {
	broken := errors.New("broken disk")
	list := io.MultiReader(strings.NewReader("a.example\nb.exam"), iotest.ErrReader(broken))
	st, err := Read(list, "list", ReadOptions{Ports: []uint16{1}}, func(measure.Target) error { return nil })
	// Half a line is not a target.
	if !errors.Is(err, broken) || err.Error() != "list: after line 1: broken disk" || st.Targets != 1 {
		t.Errorf("%v, %+v", err, st)
	}

	st, err = Read(strings.NewReader("a.example\nb.example\n"), "list", ReadOptions{Ports: []uint16{1}}, func(measure.Target) error { return broken })
	if err != broken || st.Targets != 0 {
		t.Errorf("%v, %+v", err, st)
	}

	st, err = Read(strings.NewReader(""), "list", ReadOptions{}, nil)
	if err != nil || st != (ReadStats{}) {
		t.Errorf("empty list: %+v, %v", st, err)
	}
}
