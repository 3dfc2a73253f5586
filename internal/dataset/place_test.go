package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tfofleet/internal/dataset/place/s3test"
	"tfofleet/internal/measure"
)

// eachPlace runs a test on a directory and on a real object store.
func eachPlace(t *testing.T, test func(t *testing.T, dir string)) {
	t.Run("directory", func(t *testing.T) { test(t, t.TempDir()) })
	t.Run("bucket", func(t *testing.T) { test(t, s3test.Start(t).URL("fleet")) })
}

func create(t testing.TB, dir string) *Writer {
	t.Helper()
	w, err := Create(dir, testSurvey())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// filesIn lists all files below dir, complete or not.
func filesIn(t testing.TB, w *Writer) (names []string) {
	t.Helper()
	for _, d := range []string{"", measurementsDir, attemptsDir} {
		infos, err := w.p.List(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			names = append(names, strings.TrimPrefix(d+"/"+i.Name, "/"))
		}
	}
	return names
}

// The life of a dataset: targets, two writers, chunks, outcomes, its end.
func TestDatasetInAPlace(t *testing.T) {
	eachPlace(t, func(t *testing.T, root string) {
		lists, dir := Join(root, "lists", "l1"), Join(root, "surveys", "s1")
		if _, err := OpenTargets(lists); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no targets: %v", err)
		}
		if n, err := WriteTargets(lists, 64, counted(100, func(uint64) {})); n != 100 || err != nil {
			t.Fatal(n, err)
		}
		if _, err := WriteTargets(lists, 64, counted(100, func(uint64) {})); !errors.Is(err, fs.ErrExist) {
			t.Errorf("freeze again: %v", err)
		}
		for range 2 {
			if err := CopyTargets(lists, dir); err != nil {
				t.Fatal(err)
			}
		}
		if names, err := Dirs(Join(root, "lists")); !slices.Equal(names, []string{"l1"}) || err != nil {
			t.Errorf("lists: %q, %v", names, err)
		}
		for range 2 {
			if err := RemoveTargets(lists); err != nil {
				t.Fatal(err)
			}
		}
		if names, err := Dirs(Join(root, "lists")); len(names) != 0 || err != nil {
			t.Errorf("lists: %q, %v", names, err)
		}
		ts, err := OpenTargets(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer ts.Close()
		if chunk, err := ts.Chunk(1); ts.Len() != 100 || len(chunk) != 36 || chunk[0].Item != 64 || err != nil {
			t.Errorf("%d targets, chunk 1 has %d: %v", ts.Len(), len(chunk), err)
		}

		if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no survey yet: %v", err)
		}
		a := create(t, dir)
		if _, err := Create(dir, testSurvey()); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create again: %v", err)
		}
		b, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		k := ChunkKey{Survey: "s1", Probe: "local"}
		if created, err := a.CreateChunk(k, items(3)); !created || err != nil {
			t.Fatal(created, err)
		}
		if created, err := b.CreateChunk(k, items(2)); created || err != nil {
			t.Fatal(created, err)
		}
		var got []ItemOutcome
		for o, err := range ChunkOutcomes(dir, k) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, o)
		}
		want := []ItemOutcome{{0, measure.OutcomeMeasured, measure.Supported}, {1, measure.OutcomeMeasured, measure.Supported}, {2, measure.OutcomeMeasured, measure.Supported}}
		if !slices.Equal(got, want) {
			t.Errorf("outcomes %v", got)
		}
		done := testSurvey()
		done.State = StateDone
		if err := b.PutSurvey(done); err != nil {
			t.Fatal(err)
		}
		if s, err := ReadSurvey(dir); err != nil || s.State != StateDone {
			t.Errorf("%+v, %v", s, err)
		}
		if got := readAll(t, dir); len(got) != 3 || len(got[2].Attempts) == 0 {
			t.Errorf("%d measurements", len(got))
		}
		var lines bytes.Buffer
		if err := Export(dir, JSONL, &lines); err != nil || strings.Count(lines.String(), "\n") != 3 {
			t.Errorf("export: %v\n%s", err, lines.String())
		}
		rows, err := rowsOfScan(NewScan(AllColumns, dir), 2)
		if err != nil || len(rows[k]) != 3 {
			t.Errorf("scan: %v, %v", rows, err)
		}
	})
}

// What is read is what was written, through an object store too.
func TestReadBackFromABucket(t *testing.T) {
	eachPlace(t, func(t *testing.T, dir string) {
		w := create(t, dir)
		ms := make([]measure.Measurement, 0, 50)
		for i := range cap(ms) {
			ms = append(ms, genMeasurement().Example(i))
		}
		if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: "p", Chunk: 0}, ms); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, dir)
		for i := range got {
			if diff := cmp.Diff(ms[i], got[i].Measurement, exact...); diff != "" {
				t.Errorf("measurement %d (-written +read): %s", i, diff)
			}
		}
		if len(got) != len(ms) {
			t.Errorf("%d of %d", len(got), len(ms))
		}
	})
}

// Several controllers write one chunk, each with other results: one has created
// it, the others have found it, both tables are the one's, and nothing of the
// others is left.
func TestWritersInSeveralProcesses(t *testing.T) {
	eachPlace(t, func(t *testing.T, dir string) {
		create(t, dir)
		var writers []*Writer
		for range 4 {
			w, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			writers = append(writers, w)
		}
		const chunks = 5
		var wg sync.WaitGroup
		var winners [chunks]atomic.Int32
		for chunk := range uint32(chunks) {
			for i, w := range writers {
				wg.Go(func() {
					// Two of them have the same.
					created, err := w.CreateChunk(ChunkKey{Survey: "s1", Probe: "local", Chunk: chunk}, items(10+20*(i/2)))
					if err != nil {
						t.Error(err)
					}
					if created {
						winners[chunk].Add(1)
					}
				})
			}
		}
		wg.Wait()
		for i := range winners {
			if n := winners[i].Load(); n != 1 {
				t.Errorf("chunk %d was created by %d", i, n)
			}
		}
		readAll(t, dir) // fails where attempts are missing, or another's
		if got := filesIn(t, writers[0]); len(got) != 1+2*chunks {
			t.Errorf("left behind: %q", got)
		}
	})
}

// A connection that breaks between a chunk's two tables, and does so again and
// again, leaves no measurements without attempts, and the next try succeeds.
func TestStoreFailsInTheMiddleOfAChunk(t *testing.T) {
	s := s3test.Start(t)
	dir := s.URL("fleet")
	w := create(t, dir)
	k := ChunkKey{Survey: "s1", Probe: "local"}
	for _, table := range []string{attemptsDir, measurementsDir} {
		s.Break(func(r *http.Request) s3test.Fault {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/"+table+"/") {
				return s3test.Fault{Status: 403, Code: "AccessDenied"}
			}
			return s3test.Fault{}
		})
		created, err := w.CreateChunk(k, items(100))
		if created || err == nil || !strings.Contains(err.Error(), "AccessDenied") || !strings.Contains(err.Error(), k.String()) || !strings.Contains(err.Error(), table) {
			t.Errorf("%s: %v, %v", table, created, err)
		}
		s.Break(nil)
		if keys, err := Chunks(dir); len(keys) != 0 || err != nil {
			t.Errorf("%s: %v, %v", table, keys, err)
		}
		if files, err := Files(dir); len(files) != 1 || err != nil {
			t.Errorf("%s: %v, %v", table, files, err)
		}
	}
	// The answer to the PUT of the measurements is lost: they are ours.
	lost := false
	s.Break(func(r *http.Request) s3test.Fault {
		f := s3test.Fault{LoseResponse: !lost && r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/"+measurementsDir+"/")}
		lost = lost || f.LoseResponse
		return f
	})
	if created, err := w.CreateChunk(k, items(100)); !created || err != nil || !lost {
		t.Fatal(created, err, lost)
	}
	if got := readAll(t, dir); len(got) != 100 {
		t.Errorf("%d measurements", len(got))
	}
}

// mirror copies a dataset as the two ends of a connection do. stop breaks it off
// in the middle of that file.
func mirror(from, to string, stop int) (received []string, err error) {
	files, err := Files(from)
	if err != nil {
		return nil, err
	}
	missing, err := Missing(to, "s1", files)
	if err != nil {
		return nil, err
	}
	for i, f := range missing {
		src, err := OpenFile(from, f.Name)
		if err != nil {
			return received, err
		}
		f.Size = src.Size()
		var r io.Reader = io.NewSectionReader(src, 0, f.Size)
		if i == stop {
			r = io.LimitReader(r, f.Size/2)
		}
		err = Receive(to, f, r)
		src.Close()
		if err != nil {
			return received, err
		}
		received = append(received, f.Name)
	}
	return received, nil
}

func TestMirror(t *testing.T) {
	eachPlace(t, func(t *testing.T, root string) {
		from, to := Join(root, "from"), Join(root, "to")
		if _, err := Files(from); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("files of nothing: %v", err)
		}
		w := create(t, from)
		if _, err := WriteTargets(from, 64, counted(100, func(uint64) {})); err != nil {
			t.Fatal(err)
		}
		for c := range uint32(3) {
			if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: "a/b", Chunk: c}, items(50)); err != nil {
				t.Fatal(err)
			}
		}
		// Attempts that were never given measurements, and a loser's.
		for _, c := range []uint32{1, 7} {
			if err := putAttempts(w, ChunkKey{Survey: "s1", Probe: "a/b", Chunk: c}, items(7)); err != nil {
				t.Fatal(err)
			}
		}
		want := 1 + 2*3 + 1
		files, err := Files(from)
		if err != nil || len(files) != want || files[0].Name != targetsFile || files[want-1].Name != surveyFile {
			t.Fatalf("%v, %v", files, err)
		}
		// Broken off at every file in turn, each time going on where it was.
		var all []string
		for range want {
			got, err := mirror(from, to, 1)
			all = append(all, got...)
			if err == nil {
				break
			}
			if !strings.Contains(err.Error(), "bytes or more came, not") {
				t.Fatal(err)
			}
			for r, err := range Read(to) { // what is there is whole
				if err != nil || len(r.Attempts) == 0 {
					t.Fatal(err)
				}
			}
		}
		if len(all) != want {
			t.Errorf("received %q", all)
		}
		if diff := cmp.Diff(readAll(t, from), readAll(t, to), exact...); diff != "" {
			t.Error(diff)
		}
		// Again: only what changes comes.
		done := testSurvey()
		done.State = StateDone
		if err := w.PutSurvey(done); err != nil {
			t.Fatal(err)
		}
		if got, err := mirror(from, to, -1); !slices.Equal(got, []string{surveyFile}) || err != nil {
			t.Errorf("again: %q, %v", got, err)
		}
		if s, err := ReadSurvey(to); err != nil || s.State != StateDone {
			t.Errorf("%+v, %v", s, err)
		}
		if _, err := Missing(to, "s2", files); err == nil || !strings.Contains(err.Error(), "holds survey s1, not s2") {
			t.Errorf("into another survey: %v", err)
		}
		if _, err := os.Stat(Join(to, meshDir)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a place for meshes in the copy of a dataset that has none: %v", err)
		}
	})
}

// putAttempts publishes the attempts of a chunk and goes no further.
func putAttempts(w *Writer, k ChunkKey, ms []measure.Measurement) error {
	c, err := w.encode(k, ms)
	if err != nil {
		return err
	}
	defer c.discard()
	return c.attempts.Replace(base(k.attempts(c.id)))
}

func TestReceiveRefuses(t *testing.T) {
	from, to := newDataset(t), t.TempDir()
	k := ChunkKey{Survey: "s1", Probe: "local"}
	if err := from.WriteChunk(k, items(50)); err != nil {
		t.Fatal(err)
	}
	whole, err := from.p.Load(k.measurements(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Missing(to, "s1", nil); err != nil {
		t.Fatal(err)
	}
	size := int64(len(whole))
	damaged := slices.Clone(whole)
	damaged[100] ^= 4
	for name, c := range map[string]struct {
		file    File
		content []byte
		want    string
	}{
		"longer":  {File{k.measurements(), size}, append(slices.Clone(whole), 0), "bytes or more came"},
		"shorter": {File{k.measurements(), size}, whole[:size-1], "bytes or more came"},
		"damaged": {File{k.measurements(), size}, damaged, "damaged"},
		"a name":  {File{"measurements/../../x.parquet", size}, whole, "is no file of a dataset"},
	} {
		if err := Receive(to, c.file, bytes.NewReader(c.content)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := files(t, to); len(got) != 0 {
		t.Errorf("left behind %q", got)
	}
}

func FuzzFileName(f *testing.F) {
	k := ChunkKey{Survey: "s/1", Probe: "..", Chunk: 7}
	for _, s := range []string{surveyFile, targetsFile, k.measurements(), k.attempts("0123abcd"), k.attempts(""), "../survey.json", "measurements/../survey.json",
		"/etc/passwd", "attempts/" + k.stem() + ".parquet/../x", "measurements\\x.parquet", "", ".", "measurements//" + k.stem() + tableExt, "attempts/..0000000000.parquet"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		dir, base, ok := splitName(name)
		if !ok {
			return
		}
		if !fs.ValidPath(name) || strings.ContainsAny(base, "/\\") || strings.HasPrefix(base, ".") || strings.TrimPrefix(dir+"/"+base, "/") != name {
			t.Errorf("%q is a name: %q, %q", name, dir, base)
		}
		if dir != "" && dir != measurementsDir && dir != attemptsDir {
			t.Errorf("%q is in %q", name, dir)
		}
	})
}

func TestCheckDir(t *testing.T) {
	for dir, ok := range map[string]bool{"/data": true, "data": true, "s3://b/p": true, "s3://u:p@b/p": false, "s3://": false} {
		if err := CheckDir(dir); (err == nil) != ok {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if _, err := Create(fmt.Sprintf("s3://%s", "u:p@b"), testSurvey()); err == nil || strings.Contains(err.Error(), "u:p") {
		t.Error(err)
	}
}
