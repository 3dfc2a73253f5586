package place

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	// inMemory is the size up to which an open object is held in memory.
	inMemory = 16 << 20
	// getTries is how often a GET that broke off goes on where it did.
	getTries = 10
)

// object is an open object: its content, in memory or in a temporary file.
type object struct {
	io.ReaderAt
	size int64
	file *os.File
}

func (o *object) Size() int64 { return o.size }

func (o *object) Close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}

func (b *bucket) Open(name string) (Source, error) {
	d := &download{b: b, name: name}
	defer d.close()
	if err := d.begin(); err != nil {
		return nil, err
	}
	if d.size <= inMemory {
		buf := make([]byte, d.size)
		if err := d.read(buf); err != nil {
			return nil, err
		}
		return &object{ReaderAt: bytes.NewReader(buf), size: d.size}, nil
	}
	f, err := unlinkedTemp()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 1<<20)
	for left := d.size; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), left)]
		if err = d.read(buf); err == nil {
			_, err = f.Write(buf)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
	}
	return &object{f, d.size, f}, nil
}

func (b *bucket) Load(name string, buf []byte) ([]byte, error) {
	d := &download{b: b, name: name}
	defer d.close()
	if err := d.begin(); err != nil {
		return buf, err
	}
	buf = sized(buf, d.size)
	return buf, d.read(buf)
}

func (b *bucket) Tail(name string, n int64) ([]byte, int64, error) {
	info, err := b.stat(name)
	if err != nil {
		return nil, 0, err
	}
	d := &download{b: b, name: name, etag: info.ETag, at: max(0, info.Size-n), size: info.Size}
	defer d.close()
	tail := make([]byte, d.size-d.at)
	return tail, d.size, d.read(tail)
}

// download reads an object from front to back. A connection that breaks is
// made again, and reading goes on where it was, in the same version of the
// object.
type download struct {
	b        *bucket
	name     string
	etag     string
	at, size int64

	body  io.ReadCloser
	stop  context.CancelFunc
	tries int
}

func (d *download) close() {
	if d.body != nil {
		d.body.Close()
		d.stop()
		d.body = nil
	}
}

// begin sends a GET from where it is.
func (d *download) begin() error {
	var opts minio.GetObjectOptions
	if d.at > 0 {
		if err := opts.SetRange(d.at, 0); err != nil {
			return err
		}
	}
	if d.etag != "" {
		if err := opts.SetMatchETag(d.etag); err != nil {
			return err
		}
	}
	ctx, stop := patience(d.size - d.at)
	body, info, header, err := d.b.core.GetObject(ctx, d.b.name, d.b.key(d.name), opts)
	if err != nil {
		stop()
		if minio.ToErrorResponse(err).StatusCode == http.StatusPreconditionFailed {
			return &fs.PathError{Op: "get", Path: d.b.Path(d.name), Err: errors.New("was replaced while it was read")}
		}
		return d.b.fail("get", d.name, err)
	}
	d.body, d.stop = body, stop
	if d.etag == "" {
		d.etag, d.size = info.ETag, info.Size
	} else if d.at > 0 && header.Get("Content-Range") == "" {
		d.close()
		return &fs.PathError{Op: "get", Path: d.b.Path(d.name), Err: errors.New("the store does not answer a range")}
	}
	return nil
}

// read fills buf.
func (d *download) read(buf []byte) error {
	for len(buf) > 0 {
		if d.body == nil {
			if err := d.begin(); err != nil {
				return err
			}
		}
		n, err := io.ReadFull(d.body, buf)
		buf, d.at = buf[n:], d.at+int64(n)
		if err == nil {
			return nil
		}
		d.close()
		if d.tries++; d.tries == getTries {
			return d.b.fail("get", d.name, err)
		}
		// As long as the library's own rests: up to a second.
		time.Sleep(rand.N(min(time.Second, 100*time.Millisecond<<d.tries)))
	}
	return nil
}
