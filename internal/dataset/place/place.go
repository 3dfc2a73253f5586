// Package place keeps files that are whole or absent: in a directory, or as
// objects of an S3-compatible store under a prefix of a bucket.
//
// A file is written out of sight and published at once, created (once: of
// several who create it one wins) or replaced. After publishing it is durable.
// What breaks off leaves nothing that a reader sees.
//
// # Directories
//
// An unfinished file is beside its final name, begins with ".tmp-" and is
// linked or renamed to it after an fsync. [Place.Prepare] removes those that
// are older than an hour: younger ones may be another process's.
//
// # Object stores
//
//	s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=REGION
//
// Without an endpoint it is that of AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, or
// Amazon's; without a region that of AWS_REGION, or the bucket's. The
// credentials are those of the environment (AWS_*, then MINIO_*), of the shared
// credentials file or of the instance; never of the URL, which is in logs.
// An unfinished file is in the system's directory for temporary files. It is
// published by one PUT, or in parts that are completed at the end; creating is
// conditional on If-None-Match: *, which the store has to support. Parts of an
// upload that broke off are no object, but are paid for: give the bucket a
// lifecycle rule AbortIncompleteMultipartUpload.
//
// A file is fetched by one GET, into memory or, when it is large, into an
// unlinked temporary file, and is read there: our tables carry a checksum over
// all of their bytes, so all of them are needed once anyway.
//
// Requests are repeated, with growing rests, for some seconds when the store is
// busy or the connection breaks. Names are given with slashes and relative to
// the place.
package place

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Place is where files are. Its methods may be called from several goroutines;
// errors are of kind fs.ErrNotExist and fs.ErrExist where that is the reason.
type Place interface {
	// Path is the full name of a file, for people and for errors.
	Path(name string) string
	// Prepare makes the place and directories in it ready for writing.
	Prepare(dirs ...string) error
	// New begins a file that is published in dir, "" for the place itself.
	New(dir string) (File, error)
	// Open opens a whole file.
	Open(name string) (Source, error)
	// Load reads a whole file into buf, which it grows when it has to.
	Load(name string, buf []byte) ([]byte, error)
	// Tail reads up to n bytes from the end of a file, and tells its size.
	Tail(name string, n int64) (tail []byte, size int64, err error)
	// Has reports whether a file is there.
	Has(name string) (bool, error)
	// List gives the files of a directory in no order; none when it is not
	// there. Unfinished files are not among them.
	List(dir string) ([]Info, error)
	// Dirs gives the names of the directories in it that hold something.
	Dirs() ([]string, error)
	// Ahead is how many files are best fetched at the same time before they are
	// needed; 0 for a disk, which has a cache for that.
	Ahead() int
	// Remove removes a file; it is no error when it is not there.
	Remove(name string) error
	// RemoveEmpty removes the place itself when nothing is in it but unfinished
	// files.
	RemoveEmpty() error
	// Copy makes a file of another place of the same kind appear here, without
	// its bytes coming by. It reports whether it could. A file that is there
	// already stays.
	Copy(from Place, name string) (bool, error)
}

// Info describes a file.
type Info struct {
	Name     string // without directories
	Size     int64
	Modified time.Time
}

// File is an unfinished file.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
	// Finish ends the writing.
	Finish() error
	// Create publishes a finished file under a name in its directory. The error
	// is fs.ErrExist, and nothing has changed, when the name is taken.
	Create(name string) error
	// Replace publishes a finished file in place of what is there.
	Replace(name string) error
	// Discard drops an unfinished file; after publishing it does nothing.
	Discard()
}

// Source is an open file.
type Source interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

const scheme = "s3://"

// At is the place a directory's name or an s3:// URL stands for.
func At(where string) (Place, error) {
	if !strings.HasPrefix(where, scheme) {
		return directory(where), nil
	}
	return atBucket(where)
}

// Join is the place below another.
func Join(where string, elem ...string) string {
	if !strings.HasPrefix(where, scheme) {
		return filepath.Join(append([]string{where}, elem...)...)
	}
	where, query, has := strings.Cut(where, "?")
	where = scheme + path.Join(append([]string{strings.TrimPrefix(where, scheme)}, elem...)...)
	if has {
		where += "?" + query
	}
	return where
}

// bucketURL is what an s3:// URL says.
type bucketURL struct {
	bucket, prefix   string // prefix is empty or ends with a slash
	endpoint, region string
	plain            bool // http
}

func parseURL(where string) (b bucketURL, err error) {
	// The whole of a URL is not repeated in an error: it may hold what should
	// not be there.
	u, err := url.Parse(where)
	if err != nil {
		return b, errors.New("not a URL of the form s3://BUCKET/PREFIX")
	}
	if u.User != nil {
		return b, errors.New("credentials do not belong into the URL of a bucket: put them into the environment, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	b.bucket = u.Host
	if b.bucket == "" {
		return b, errors.New("no bucket in the URL: it has the form s3://BUCKET/PREFIX")
	}
	if b.prefix = strings.Trim(u.Path, "/"); b.prefix != "" {
		if !fs.ValidPath(b.prefix) {
			return b, fmt.Errorf("prefix %q is no path", b.prefix)
		}
		b.prefix += "/"
	}
	for key, values := range u.Query() {
		switch key {
		case "endpoint":
			b.endpoint = values[0]
		case "region":
			b.region = values[0]
		default:
			return b, fmt.Errorf("unknown parameter %q in the URL of a bucket: there are endpoint and region", key)
		}
	}
	return b, nil
}
