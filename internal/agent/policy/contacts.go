package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Contact is a destination that is about to get its first SYN of a measurement.
type Contact struct {
	Time   time.Time  `json:"time"`
	Addr   netip.Addr `json:"addr"`
	Port   uint16     `json:"port"`
	Host   string     `json:"host,omitempty"` // the name it came from
	Survey string     `json:"survey"`
}

// contactLog is the log of contacts: JSON lines, in one write for each call.
type contactLog struct {
	sync SyncPolicy

	mu    sync.Mutex
	file  *os.File
	torn  bool // the last write left half a line
	dirty *time.Timer
	err   error // of a sync in the background
}

// openContacts opens the log of these settings; nil when there is none.
func openContacts(s Settings) (*contactLog, error) {
	if s.ContactLog == "" {
		return nil, nil
	}
	f, err := os.OpenFile(s.ContactLog, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &contactLog{sync: s.ContactsSync, file: f}, nil
}

// add writes contacts. An error means that they are to be refused.
func (l *contactLog) add(cs []Contact) error {
	if l == nil || len(cs) == 0 {
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i := range cs {
		if err := enc.Encode(&cs[i]); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.err; err != nil {
		l.err = nil
		return err
	}
	line := b.Bytes()
	if l.torn {
		line = append([]byte("\n"), line...)
	}
	n, err := l.file.Write(line)
	if n > 0 {
		l.torn = n < len(line)
	}
	if err != nil {
		return err
	}
	switch {
	case l.sync == SyncAlways:
		return l.file.Sync()
	case l.sync > 0 && l.dirty == nil:
		l.dirty = time.AfterFunc(time.Duration(l.sync), l.flush)
	}
	return nil
}

func (l *contactLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dirty != nil {
		l.dirty = nil
		l.err = l.file.Sync() // told to the next who writes
	}
}

func (l *contactLog) close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dirty != nil {
		l.dirty.Stop()
		l.dirty = nil
	}
	err := l.err
	if l.sync != SyncNever {
		err = errors.Join(err, l.file.Sync())
	}
	return errors.Join(err, l.file.Close())
}
