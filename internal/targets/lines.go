package targets

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// maxLine bounds a line, so that memory does not depend on the input.
const maxLine = 64 << 10

const errLongLine = reason("the line is longer than 64 KiB")

// LineError is a line that can not be used, and why.
type LineError struct {
	File   string // as given to the reading function
	Line   int    // from 1
	Text   string // the line, shortened, without control characters
	Reason string // one sentence for people, without the line itself
}

func (e *LineError) Error() string {
	return fmt.Sprintf("%s:%d: %s: %s", e.File, e.Line, e.Reason, e.Text)
}

// shownText is how much of a bad line is shown.
const shownText = 80

// shorten makes a piece of a foreign file fit for a terminal: one line, no
// escape sequences, no invisible or direction-changing characters.
func shorten(s string) string {
	cut := len(s) > shownText
	if cut {
		s = s[:shownText]
		for i := 0; i < utf8.UTFMax && s != "" && !utf8.ValidString(s[len(s)-1:]); i++ {
			s = s[:len(s)-1] // do not end within a character
		}
	}
	q := strconv.Quote(s)
	if cut {
		return q[1:len(q)-1] + "..."
	}
	return q[1 : len(q)-1]
}

// lineReader yields the lines of a file. A line that is too long is skipped
// and reported, not held.
type lineReader struct {
	r *bufio.Reader
	n int // number of the current line, from 1
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, maxLine+len("\r\n"))}
}

// next returns the next line without its end and without a byte order mark. It
// is valid until the next call. A line that is too long comes as its beginning
// with errLongLine, and reading can go on; io.EOF ends the file.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if len(line) == 0 && err != nil {
		return nil, err
	}
	l.n++
	if errors.Is(err, bufio.ErrBufferFull) {
		head := bytes.Clone(line[:2*shownText])
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.r.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		return l.trim(head), errLongLine
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if len(line) > maxLine {
		return l.trim(line), errLongLine
	}
	return l.trim(line), nil
}

func (l *lineReader) trim(line []byte) []byte {
	if l.n == 1 {
		return bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return line
}
