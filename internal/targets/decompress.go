package targets

import (
	"archive/zip"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory of a zstd stream. Level 19 needs 8 MiB; only
// --ultra and --long go beyond 32 MiB.
const maxWindow = 32 << 20

// decompress returns the plain text behind r, which it does not close.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		return gzip.NewReader(br)
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")):
		d, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte("PK\x03\x04")):
		return openZip(r)
	case bytes.HasPrefix(magic, []byte("\xff\xfe")), bytes.HasPrefix(magic, []byte("\xfe\xff")):
		return nil, errors.New("the list is UTF-16 text: save it as UTF-8")
	}
	return io.NopCloser(br), nil
}

// openZip opens the one file of an archive. The index of a zip archive is at
// its end, so a pipe will not do.
func openZip(r io.Reader) (io.ReadCloser, error) {
	file, ok := r.(io.ReaderAt)
	size := int64(-1)
	switch f := r.(type) {
	case interface{ Stat() (fs.FileInfo, error) }:
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
	case interface{ Size() int64 }:
		size = f.Size()
	}
	if !ok || size < 0 {
		return nil, errors.New("a zip archive can not be read from a pipe: name the file, or unpack it first (unzip -p FILE)")
	}
	archive, err := zip.NewReader(file, size)
	if err != nil {
		return nil, err
	}
	if n := len(archive.File); n != 1 {
		return nil, fmt.Errorf("the zip archive holds %d files instead of one list: unpack it first", n)
	}
	return archive.File[0].Open()
}
