package place

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// bucket is a place in an object store.
type bucket struct {
	*store
	name, prefix string // prefix is empty or ends with a slash
}

// store is an object store and how it is reached. One is shared by all places
// in it, and with it connections and credentials.
type store struct {
	core     *minio.Core
	endpoint string
}

var stores struct {
	sync.Mutex
	by map[bucketURL]*store
}

func atBucket(where string) (Place, error) {
	u, err := parseURL(where)
	if err != nil {
		return nil, err
	}
	b := &bucket{name: u.bucket, prefix: u.prefix}
	u.bucket, u.prefix = "", ""
	if err := u.complete(); err != nil {
		return nil, err
	}
	stores.Lock()
	defer stores.Unlock()
	if b.store = stores.by[u]; b.store == nil {
		if b.store, err = connect(u); err != nil {
			return nil, err
		}
		if stores.by == nil {
			stores.by = make(map[bucketURL]*store)
		}
		stores.by[u] = b.store
	}
	return b, nil
}

const amazon = "s3.amazonaws.com"

// complete fills in from the environment what the URL does not say.
func (u *bucketURL) complete() error {
	u.endpoint = cmp.Or(u.endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), amazon)
	if !strings.Contains(u.endpoint, "://") {
		u.endpoint = "https://" + u.endpoint
	}
	e, err := url.Parse(u.endpoint)
	if err != nil || e.Host == "" || e.Scheme != "https" && e.Scheme != "http" || strings.Trim(e.Path, "/") != "" || e.User != nil || e.RawQuery != "" {
		return errors.New("the endpoint of an object store has the form https://HOST:PORT")
	}
	u.endpoint, u.plain = e.Host, e.Scheme == "http"
	u.region = cmp.Or(u.region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
	if u.region == "" && u.endpoint != amazon {
		u.region = "us-east-1" // what stores that have no regions call theirs
	}
	return nil
}

func connect(u bucketURL) (*store, error) {
	transport, err := minio.DefaultTransport(!u.plain)
	if err != nil {
		return nil, err
	}
	core, err := minio.NewCore(u.endpoint, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		}),
		Secure: !u.plain, Region: u.region, Transport: transport,
	})
	if err != nil {
		return nil, err
	}
	return &store{core, u.endpoint}, nil
}

// patience is how long one request may take, repetitions and all, that moves n
// bytes. A slower store than 64 KB/s is a broken one.
func patience(n int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 2*time.Minute+time.Duration(n>>16)*time.Second)
}

func (b *bucket) key(name string) string { return b.prefix + name }

func (b *bucket) Path(name string) string { return scheme + b.name + "/" + b.key(name) }

// fail explains an error of the store.
func (b *bucket) fail(op, name string, err error) error {
	e := minio.ToErrorResponse(err)
	switch {
	case err == nil:
		return nil
	case e.StatusCode == http.StatusPreconditionFailed:
		err = fs.ErrExist
	case e.Code == minio.NoSuchKey, e.Code == "" && e.StatusCode == http.StatusNotFound:
		err = fs.ErrNotExist
	case e.Code == "" || e.StatusCode == 0: // no answer
	default:
		err = fmt.Errorf("%s: %s (status %d, at %s)", e.Code, strings.TrimSuffix(e.Message, "."), e.StatusCode, b.endpoint)
	}
	return &fs.PathError{Op: op, Path: b.Path(name), Err: err}
}

// Prepare asks for the bucket, so that a wrong name or key is known before
// there is something to write.
func (b *bucket) Prepare(...string) error {
	ctx, stop := patience(0)
	defer stop()
	ok, err := b.core.BucketExists(ctx, b.name)
	if err != nil {
		return b.fail("open", "", err)
	}
	if !ok {
		return &fs.PathError{Op: "open", Path: scheme + b.name, Err: fmt.Errorf("there is no such bucket at %s", b.endpoint)}
	}
	return nil
}

func (b *bucket) Has(name string) (bool, error) {
	_, err := b.stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (b *bucket) stat(name string) (minio.ObjectInfo, error) {
	ctx, stop := patience(0)
	defer stop()
	info, err := b.core.StatObject(ctx, b.name, b.key(name), minio.StatObjectOptions{})
	return info, b.fail("stat", name, err)
}

func (b *bucket) List(dir string) ([]Info, error) {
	var infos []Info
	err := b.each(dir, func(name string, o minio.ObjectInfo) {
		if !strings.HasSuffix(name, "/") {
			infos = append(infos, Info{name, o.Size, o.LastModified})
		}
	})
	return infos, err
}

func (b *bucket) Dirs() ([]string, error) {
	var names []string
	err := b.each("", func(name string, _ minio.ObjectInfo) {
		if dir, ok := strings.CutSuffix(name, "/"); ok {
			names = append(names, dir)
		}
	})
	return names, err
}

func (b *bucket) each(dir string, f func(name string, o minio.ObjectInfo)) error {
	prefix := b.prefix
	if dir != "" {
		prefix += dir + "/"
	}
	// Each page of a listing has its own time; all of them together are not
	// limited.
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	for o := range b.core.Client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return b.fail("list", dir, o.Err)
		}
		if name := strings.TrimPrefix(o.Key, prefix); name != "" && !strings.HasPrefix(name, ".") {
			f(name, o)
		}
	}
	return nil
}

// Ahead hides the time to the first byte, some 20 ms, behind others of its kind:
// sixteen chunks of 300 KB then come at 200 MB/s.
func (b *bucket) Ahead() int { return 16 }

func (b *bucket) Remove(name string) error {
	ctx, stop := patience(0)
	defer stop()
	err := b.fail("remove", name, b.core.RemoveObject(ctx, b.name, b.key(name), minio.RemoveObjectOptions{}))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveEmpty has nothing to do: a prefix without objects is not there.
func (b *bucket) RemoveEmpty() error { return nil }

// Copy has the store copy. There is no condition on a copy that every store
// knows: of several who copy at the same time the last one wins, with the same
// bytes.
func (b *bucket) Copy(from Place, name string) (bool, error) {
	other, ok := from.(*bucket)
	if !ok || other.store != b.store {
		return false, nil
	}
	if have, err := b.Has(name); have || err != nil {
		return have, err
	}
	info, err := other.stat(name)
	if err != nil {
		return false, err
	}
	if info.Size > maxCopy {
		return false, nil
	}
	ctx, stop := patience(info.Size)
	defer stop()
	_, err = b.core.Client.CopyObject(ctx,
		minio.CopyDestOptions{Bucket: b.name, Object: b.key(name)},
		minio.CopySrcOptions{Bucket: other.name, Object: other.key(name)})
	return err == nil, b.fail("copy", name, err)
}

// maxCopy is the largest object that S3 copies in one call (CopyObject).
const maxCopy = 5 << 30
