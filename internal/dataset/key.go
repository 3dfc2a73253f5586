package dataset

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ChunkKey names a chunk of a survey as one probe measured it.
type ChunkKey struct {
	Survey, Probe string
	Chunk         uint32
}

// The tables that are kept in one file per chunk.
const (
	measurementsDir = "measurements"
	attemptsDir     = "attempts"
	tableExt        = ".parquet"
)

func (k ChunkKey) String() string {
	return fmt.Sprintf("survey %s probe %s chunk %d", k.Survey, k.Probe, k.Chunk)
}

func (k ChunkKey) compare(l ChunkKey) int {
	return cmp.Or(cmp.Compare(k.Survey, l.Survey), cmp.Compare(k.Chunk, l.Chunk), cmp.Compare(k.Probe, l.Probe))
}

// path is where the chunk's rows of a table are.
func (k ChunkKey) path(dir, table string) string {
	return filepath.Join(dir, table, fmt.Sprintf("%s.%s.%010d%s", escape(k.Survey), escape(k.Probe), k.Chunk, tableExt))
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

// parseKey is the inverse of path's last element.
func parseKey(name string) (ChunkKey, bool) {
	name, ok := strings.CutSuffix(name, tableExt)
	parts := strings.Split(name, ".")
	if !ok || len(parts) != 3 || len(parts[2]) != 10 {
		return ChunkKey{}, false
	}
	survey, ok1 := unescape(parts[0])
	probe, ok2 := unescape(parts[1])
	chunk, err := strconv.ParseUint(parts[2], 10, 32)
	return ChunkKey{survey, probe, uint32(chunk)}, ok1 && ok2 && err == nil
}

// Chunks lists the chunks that are in the dataset, by survey, chunk and probe:
// what all probes saw of one chunk is together. A directory in which no chunk
// was finished yet has none; that is no error.
func Chunks(dir string) ([]ChunkKey, error) {
	return chunksOf(dir, measurementsDir)
}

func chunksOf(dir, table string) ([]ChunkKey, error) {
	entries, err := os.ReadDir(filepath.Join(dir, table))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys []ChunkKey
	for _, e := range entries {
		if k, ok := parseKey(e.Name()); ok {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, ChunkKey.compare)
	return keys, nil
}
