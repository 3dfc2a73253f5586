package main

import (
	"bufio"
	"fmt"
	"io"
	"sync"

	"tfofleet/internal/tfo"
)

// listenFormat is one way to show what a listener reports.
type listenFormat interface {
	listening(w io.Writer, l *tfo.Listener)
	arrival(w io.Writer, n int, a *tfo.Arrival)
	alarm(w io.Writer, a tfo.Alarm)
	end(w io.Writer, t *listenTally, moved tfo.MIB)
}

// listenOutput stands between the listener's loop, which must not wait, and
// whoever reads, who may be slow.
type listenOutput struct {
	format      listenFormat
	nobodyReads func() // called when writing fails

	mu      sync.Mutex
	waiting []any // *tfo.Arrival or tfo.Alarm
	tally   listenTally
	over    bool
	more    sync.Cond // waiting or over changed; nil until begin

	w    *bufio.Writer
	done chan struct{}
	err  error
}

// waitingMost is how many reports wait for a reader; what comes on top is
// counted and not shown.
const waitingMost = 1 << 16

// listenTally counts connections.
type listenTally struct {
	Connections   int `json:"connections"`
	WithoutOption int `json:"without_option"`
	Requests      int `json:"cookie_requests"`
	Valid         int `json:"cookies_valid"`
	Backup        int `json:"cookies_of_backup_key"`
	Stale         int `json:"cookies_stale"`
	OtherCookies  int `json:"cookies_other"` // malformed, or not to be judged
	Unseen        int `json:"syns_unseen"`
	Children      int `json:"tfo_children"`
	WithData      int `json:"with_syn_data"`
	DataTaken     int `json:"with_syn_data_taken"`
	Early         int `json:"answered_early"`
	Alarms        int `json:"alarms"`
	NotShown      int `json:"not_shown"`
}

func (t *listenTally) add(a *tfo.Arrival) {
	t.Connections++
	switch a.Claim {
	case tfo.ClaimNone:
		t.WithoutOption++
	case tfo.ClaimRequest:
		t.Requests++
	case tfo.ClaimValid:
		t.Valid++
	case tfo.ClaimBackup:
		t.Backup++
	case tfo.ClaimStale:
		t.Stale++
	case tfo.ClaimUnseen:
		t.Unseen++
	default:
		t.OtherCookies++
	}
	count := func(n *int, is bool) {
		if is {
			*n++
		}
	}
	count(&t.Children, a.Child == tfo.Yes)
	count(&t.WithData, a.SynBytes > 0)
	count(&t.DataTaken, a.SynTaken > 0)
	count(&t.Early, a.AnsweredEarly == tfo.Yes)
}

func (o *listenOutput) arrived(a *tfo.Arrival) { o.put(a, func(t *listenTally) { t.add(a) }) }
func (o *listenOutput) alarm(a tfo.Alarm)      { o.put(a, func(t *listenTally) { t.Alarms++ }) }

func (o *listenOutput) put(report any, count func(*listenTally)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	count(&o.tally)
	if len(o.waiting) >= waitingMost {
		o.tally.NotShown++
		return
	}
	o.waiting = append(o.waiting, report)
	if o.more.L != nil {
		o.more.Signal()
	}
}

// begin says where the listener listens and starts writing. What was reported
// before has waited.
func (o *listenOutput) begin(w io.Writer, l *tfo.Listener) {
	o.w, o.done = bufio.NewWriter(w), make(chan struct{})
	o.format.listening(o.w, l)
	o.mu.Lock()
	o.more.L = &o.mu
	o.mu.Unlock()
	go o.write()
}

// write writes until the end, or until nobody reads any more.
func (o *listenOutput) write() {
	defer close(o.done)
	for n := 0; ; {
		if o.err = o.w.Flush(); o.err != nil {
			o.nobodyReads()
			return
		}
		o.mu.Lock()
		for len(o.waiting) == 0 && !o.over {
			o.more.Wait()
		}
		batch := o.waiting
		o.waiting = nil
		o.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, r := range batch {
			switch r := r.(type) {
			case *tfo.Arrival:
				n++
				o.format.arrival(o.w, n, r)
			case tfo.Alarm:
				o.format.alarm(o.w, r)
			}
		}
	}
}

// end writes what is left and the sums. The listener must be closed.
func (o *listenOutput) end(moved tfo.MIB) error {
	o.mu.Lock()
	o.over = true
	o.more.Signal()
	o.mu.Unlock()
	<-o.done
	if o.err == nil {
		o.format.end(o.w, &o.tally, moved)
		o.err = o.w.Flush()
	}
	if o.err != nil {
		return fail(exitFailure, fmt.Errorf("write what arrived: %w", o.err))
	}
	return nil
}
