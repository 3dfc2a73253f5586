package dataset

import (
	"path"
	"time"

	"github.com/parquet-go/parquet-go"

	"tfofleet/internal/dataset/place"
)

// forsaken is the age from which attempts without measurements belong to nobody
// who still writes: between the two there are seconds. It is by two clocks, an
// object store's and ours.
const forsaken = 24 * time.Hour

// sweep removes attempts that no measurements name: those of a chunk that was
// written otherwise, and those that are without measurements and of some age.
// Who reads the attempts table alone must not see them for ever.
func (w *Writer) sweep(age time.Duration) error {
	infos, err := w.p.List(attemptsDir)
	if err != nil {
		return err
	}
	// After the attempts: measurements that are there now have theirs in infos,
	// or younger ones.
	keys, err := chunks(w.p)
	if err != nil {
		return err
	}
	written := make(map[ChunkKey]bool, len(keys))
	for _, k := range keys {
		written[k] = true
	}
	files := make(map[ChunkKey]int, len(infos))
	for _, i := range infos {
		if k, _, ok := parseKey(i.Name); ok {
			files[k]++
		}
	}
	for _, i := range infos {
		k, id, ok := parseKey(i.Name)
		if !ok || written[k] && files[k] == 1 {
			continue
		}
		if written[k] {
			named, err := attemptsOf(w.p, k)
			if err != nil {
				return err
			}
			if named == id {
				continue
			}
		} else if since := time.Since(i.Modified); since < age || k.Late > 0 && since < forsaken {
			continue // late files are written also when the survey has ended
		}
		if err := w.p.Remove(attemptsDir + "/" + i.Name); err != nil {
			return err
		}
	}
	return nil
}

// attemptsOf is the id of the attempts that a chunk's measurements name.
func attemptsOf(p place.Place, k ChunkKey) (id string, err error) {
	f, err := p.Open(k.measurements())
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := checkSeal(f, f.Size()); err != nil {
		return "", inFile(p.Path(k.measurements()), err)
	}
	pf, err := parquet.OpenFile(f, f.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return "", inFile(p.Path(k.measurements()), err)
	}
	id, _ = pf.Lookup(attemptsKey)
	return id, nil
}

// base is the name of a file in its directory.
func base(name string) string { return path.Base(name) }
