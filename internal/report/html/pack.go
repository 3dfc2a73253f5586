package html

import (
	"bytes"
	"encoding/base64"

	"github.com/klauspost/compress/flate"
)

// deflate packs without a header, as DecompressionStream("deflate-raw") reads
// it.
func deflate(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// encoded is the size of n bytes in the file.
func encoded(n int) int { return base64.StdEncoding.EncodedLen(n) }
