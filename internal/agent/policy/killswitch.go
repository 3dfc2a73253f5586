package policy

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"time"
)

// killEvery is how often the file is looked for. A check in between costs two
// loads.
const killEvery = 100 * time.Millisecond

// killSwitch is a file that stops everything by being there.
type killSwitch struct {
	path    string
	on      atomic.Bool
	checked atomic.Int64 // unix nanoseconds
}

func newKillSwitch(path string, now time.Time) *killSwitch {
	k := &killSwitch{path: path}
	if path != "" {
		k.checked.Store(now.UnixNano())
		k.look()
	}
	return k
}

// look takes what cannot be looked at for there: a directory that cannot be
// read, or a disk that is gone.
func (k *killSwitch) look() {
	_, err := os.Lstat(k.path)
	k.on.Store(!errors.Is(err, fs.ErrNotExist))
}

func (k *killSwitch) engaged(now time.Time) bool {
	if k.path == "" {
		return false
	}
	n, last := now.UnixNano(), k.checked.Load()
	if (n-last >= int64(killEvery) || n < last) && k.checked.CompareAndSwap(last, n) {
		k.look()
	}
	return k.on.Load()
}
