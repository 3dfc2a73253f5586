package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// makeOut makes the directory of a new dataset. A name that is taken is
// refused, an empty directory too: nothing of the user's is ever written over.
func makeOut(dir string) (made string, err error) {
	byUs := dir == ""
	if byUs {
		dir = "tfo-survey-" + time.Now().UTC().Format("20060102T150405Z")
	}
	for i := 1; ; i++ {
		name := dir
		if i > 1 {
			name = fmt.Sprintf("%s-%d", dir, i)
		}
		err := os.Mkdir(name, 0o755)
		switch {
		case err == nil:
			return name, nil
		case !errors.Is(err, fs.ErrExist):
			return "", unwritable(name, err)
		case byUs:
			continue // two surveys in one second
		}
		hint := "name a directory that does not exist yet with --out DIR"
		if hasState(name) {
			hint = fmt.Sprintf("it holds a survey that is not complete: go on with it by --resume %s, or name another directory with --out DIR", quote(name))
		}
		return "", fail(exitOutExists, fmt.Errorf("%s exists", name), hint)
	}
}
