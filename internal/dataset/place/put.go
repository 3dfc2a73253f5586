package place

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
)

const (
	// onePut is the size up to which an object goes in one PUT: what is cut off
	// has to be sent again. Chunks are smaller, large lists of targets are not.
	onePut = 32 << 20
	// minPart is the size of the parts of a larger one; more of them than
	// maxParts are not allowed.
	minPart  = 16 << 20
	maxParts = 10000
	// putTries is how often a PUT is made that others got in the way of.
	putTries = 10
)

// upload is a file that is written here and published as an object.
type upload struct {
	*os.File
	b   *bucket
	dir string // empty or ending with a slash
	// The sizes, for tests to make small.
	onePut, part int64
}

func (b *bucket) New(dir string) (File, error) {
	f, err := unlinkedTemp()
	if err != nil {
		return nil, err
	}
	if dir != "" {
		dir += "/"
	}
	return &upload{f, b, dir, onePut, minPart}, nil
}

// unlinkedTemp is a temporary file that goes with its descriptor.
func unlinkedTemp() (*os.File, error) {
	f, err := os.CreateTemp("", tempPrefix+"*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (u *upload) Finish() error { return nil }
func (u *upload) Discard()      { u.Close() }

func (u *upload) Replace(name string) error {
	_, opts := owned()
	return u.b.fail("put", u.dir+name, u.put(name, opts))
}

// ownerKey is where an object says which writing made it. When the answer to a
// request is lost, its repetition finds the name taken by ourselves.
const ownerKey = "Tfofleet-Write"

func owned() (owner string, opts minio.PutObjectOptions) {
	owner = fmt.Sprintf("%016x", rand.Uint64())
	return owner, minio.PutObjectOptions{UserMetadata: map[string]string{ownerKey: owner}}
}

func (u *upload) Create(name string) error {
	owner, opts := owned()
	opts.SetMatchETagExcept("*")
	err := u.put(name, opts)
	// Others were at it at the same time, and it is open who won: S3 wants the
	// request once more.
	for tries := 1; tries < putTries && minio.ToErrorResponse(err).Code == "ConditionalRequestConflict"; tries++ {
		err = u.put(name, opts)
	}
	if err == nil {
		return nil
	}
	answered := minio.ToErrorResponse(err).StatusCode != 0
	err = u.b.fail("create", u.dir+name, err)
	if answered && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// A store that refuses what has a taken name may close the connection while
	// the rest is still being sent, and then there is no answer: the name tells.
	info, unknown := u.b.stat(u.dir + name)
	switch {
	case unknown != nil:
		return err
	case info.UserMetadata[ownerKey] == owner:
		return nil
	}
	return &fs.PathError{Op: "create", Path: u.b.Path(u.dir + name), Err: fs.ErrExist}
}

// made reports whether the object is there and of that owner.
func (u *upload) made(name, owner string) bool {
	info, err := u.b.stat(u.dir + name)
	return err == nil && info.UserMetadata[ownerKey] == owner
}

func (u *upload) put(name string, opts minio.PutObjectOptions) error {
	info, err := u.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	opts.ContentType = "application/octet-stream"
	if size > u.onePut {
		return u.putParts(u.b.key(u.dir+name), size, opts)
	}
	ctx, stop := patience(size)
	defer stop()
	_, err = u.b.core.PutObject(ctx, u.b.name, u.b.key(u.dir+name), io.NewSectionReader(u, 0, size), size, "", "", opts)
	return err
}

// putParts sends parts, each of which can be repeated, and has them become an
// object at the end. Only there the condition counts, so only there it is sent.
func (u *upload) putParts(key string, size int64, opts minio.PutObjectOptions) error {
	ctx, stop := patience(size)
	defer stop()
	id, err := u.b.core.NewMultipartUpload(ctx, u.b.name, key, minio.PutObjectOptions{ContentType: opts.ContentType, UserMetadata: opts.UserMetadata})
	if err != nil {
		return err
	}
	part := max(u.part, (size+maxParts-1)/maxParts)
	var parts []minio.CompletePart
	for at := int64(0); at < size && err == nil; at += part {
		n := min(part, size-at)
		var sent minio.ObjectPart
		sent, err = u.b.core.PutObjectPart(ctx, u.b.name, key, id, len(parts)+1, io.NewSectionReader(u, at, n), n, minio.PutObjectPartOptions{})
		parts = append(parts, minio.CompletePart{PartNumber: sent.PartNumber, ETag: sent.ETag})
	}
	if err == nil {
		if _, err = u.b.core.CompleteMultipartUpload(ctx, u.b.name, key, id, parts, opts); err == nil {
			return nil
		}
	}
	// An answer to the completion that was lost shows as an upload that is not
	// there any more.
	if minio.ToErrorResponse(err).Code == "NoSuchUpload" && u.made(strings.TrimPrefix(key, u.b.key(u.dir)), opts.UserMetadata[ownerKey]) {
		return nil
	}
	abort, stopAbort := patience(0)
	defer stopAbort()
	u.b.core.AbortMultipartUpload(abort, u.b.name, key, id) // what is left is for the bucket's lifecycle rule
	return err
}
