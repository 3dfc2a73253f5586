package dataset

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tfofleet/internal/dataset/place"
)

// ChunkKey names a chunk of a survey as one probe measured it.
type ChunkKey struct {
	Survey, Probe string
	Chunk         uint32
	// Late is 0 for what was written when the chunk was finished. What came
	// after that is in files of its own, from 1 on: see [Superseded].
	Late uint32
}

// The tables that are kept in one file per chunk.
const (
	measurementsDir = "measurements"
	attemptsDir     = "attempts"
	tableExt        = ".parquet"
)

func (k ChunkKey) String() string {
	s := fmt.Sprintf("survey %s probe %s chunk %d", k.Survey, k.Probe, k.Chunk)
	if k.Late > 0 {
		s += fmt.Sprintf(" late %d", k.Late)
	}
	return s
}

func (k ChunkKey) compare(l ChunkKey) int {
	return cmp.Or(cmp.Compare(k.Survey, l.Survey), cmp.Compare(k.Chunk, l.Chunk), cmp.Compare(k.Probe, l.Probe), cmp.Compare(k.Late, l.Late))
}

// stem is what the names of the chunk's files begin with.
func (k ChunkKey) stem() string {
	s := fmt.Sprintf("%s.%s.%010d", escape(k.Survey), escape(k.Probe), k.Chunk)
	if k.Late > 0 {
		s += "." + lateMark + strconv.FormatUint(uint64(k.Late), 10)
	}
	return s
}

// lateMark comes before the number of a late file, and in no id.
const lateMark = "late"

// measurements is the name of the file with the chunk's measurements.
func (k ChunkKey) measurements() string { return measurementsDir + "/" + k.stem() + tableExt }

// attempts is the name of the file with the attempts of the measurements that
// carry id. Schema 1 began without one.
func (k ChunkKey) attempts(id string) string {
	name := attemptsDir + "/" + k.stem()
	if id != "" {
		name += "." + id
	}
	return name + tableExt
}

// escape turns a name into one that holds only letters, digits, '-', '_' and
// '%': nothing a file system or a shell cares for, and never the dot that
// separates the parts of a file name.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// unescape is the inverse of escape; ok is false for what escape never makes.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+3 > len(s) {
				return "", false
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			c = byte(n)
			i += 2
		}
		b.WriteByte(c)
	}
	return b.String(), escape(b.String()) == s
}

// parseKey takes the name of a chunk's file apart, without its directory; id is
// empty but for attempts.
func parseKey(name string) (k ChunkKey, id string, ok bool) {
	name, ok = strings.CutSuffix(name, tableExt)
	parts := strings.Split(name, ".")
	if !ok || len(parts) < 3 || len(parts[2]) != 10 {
		return ChunkKey{}, "", false
	}
	var ok1, ok2 bool
	k.Survey, ok1 = unescape(parts[0])
	k.Probe, ok2 = unescape(parts[1])
	chunk, err := strconv.ParseUint(parts[2], 10, 32)
	k.Chunk = uint32(chunk)
	if parts = parts[3:]; len(parts) > 0 {
		if n, late := strings.CutPrefix(parts[0], lateMark); late {
			late, err := strconv.ParseUint(n, 10, 32)
			k.Late, parts = uint32(late), parts[1:]
			ok = err == nil && late > 0 && strconv.FormatUint(late, 10) == n
		}
	}
	if len(parts) > 0 {
		id = parts[0]
		ok = ok && len(parts) == 1 && validID(id)
	}
	if !ok || !ok1 || !ok2 || err != nil || k.Survey == "" || k.Probe == "" {
		return ChunkKey{}, "", false
	}
	return k, id, true
}

// idOf is the id of attempts whose table sums up to sum: their content gives
// them their name.
func idOf(sum uint32) string { return fmt.Sprintf("%08x", sum) }

func validID(id string) bool {
	n, err := strconv.ParseUint(id, 16, 32)
	return err == nil && idOf(uint32(n)) == id
}

// Chunks lists the chunks that are in the dataset, by survey, chunk and probe,
// late files after what they are late for: what all probes saw of one chunk is
// together. A directory in which no chunk
// was finished yet has none; that is no error.
func Chunks(dir string) ([]ChunkKey, error) {
	p, err := place.At(dir)
	if err != nil {
		return nil, err
	}
	return chunks(p)
}

// chunksAndLate are the chunks of a dataset, and which of their rows do not count.
func chunksAndLate(p place.Place) ([]ChunkKey, *Superseded, error) {
	keys, err := chunks(p)
	if err != nil {
		return nil, nil, err
	}
	late, err := superseded(p, keys)
	return keys, late, err
}

func chunks(p place.Place) ([]ChunkKey, error) {
	infos, err := p.List(measurementsDir)
	if err != nil {
		return nil, err
	}
	var keys []ChunkKey
	for _, i := range infos {
		if k, id, ok := parseKey(i.Name); ok && id == "" {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, ChunkKey.compare)
	return keys, nil
}
