package tfo

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// AlarmKind names what endangers the evidence of a listener's clients: each of
// these makes a healthy listener look as if it had no Fast Open. The values
// are append-only.
type AlarmKind uint8

const (
	// AlarmServerOff: bit 0x2 of net.ipv4.tcp_fastopen is clear. The kernel
	// gives no error and no Fast Open.
	AlarmServerOff AlarmKind = 1
	// AlarmQueueCapped: the queue is shorter than was asked for
	// (net.core.somaxconn). Count is what was asked for.
	AlarmQueueCapped AlarmKind = 2
	// AlarmQueueNear: three quarters of the queue are in use.
	AlarmQueueNear AlarmKind = 3
	// AlarmQueueOverflow: the queue was full; Count SYNs got neither cookie
	// nor child (TCPFastOpenListenOverflow).
	AlarmQueueOverflow AlarmKind = 4
	// AlarmAcceptOverflow: Count SYNs or ACKs were dropped, because the accept
	// queue was full (ListenOverflows) or for want of memory (ListenDrops).
	AlarmAcceptOverflow AlarmKind = 5
	// AlarmSyncookies: SYN cookies are sent, and with them no Fast Open;
	// Count of them, 0 when they are always sent (net.ipv4.tcp_syncookies = 2).
	AlarmSyncookies AlarmKind = 6
	// AlarmShortage: no descriptors or memory to accept with; Errno says which.
	AlarmShortage AlarmKind = 7
)

var alarmNames = [...]string{"unknown", "server_off", "queue_capped", "queue_near", "queue_overflow", "accept_overflow", "syncookies", "shortage"}

func (k AlarmKind) String() string {
	if int(k) < len(alarmNames) {
		return alarmNames[k]
	}
	return "unknown"
}

// Alarm is one such event. The kernel counts for the whole network namespace:
// another listener there may be the cause.
type Alarm struct {
	Kind  AlarmKind
	Time  time.Time
	Queue int // pending TFO connections the kernel allows
	InUse int // of Queue, as far as the listener can tell
	Count int64
	Errno string
}

// resetRest is how long a TFO child that the peer reset keeps its place in the
// queue (reqsk_fastopen_remove, net/core/request_sock.c).
const resetRest = int64(60 * time.Second)

// queueWatch keeps an eye on the queue of pending TFO connections. The kernel
// does not tell how full it is, so the watch counts: children that are accepted
// with their handshake incomplete, and those reset by the peer, which keep
// their place for 60 s.
type queueWatch struct {
	report func(Alarm)
	queue  int
	asked  int // 0 when as many as possible were asked for
	always bool
	mib    *mibFile
	sysctl *os.File // net.ipv4.tcp_fastopen

	last    MIB
	pending int
	resting []int64 // until when they rest, the earliest first
	near    bool
	off     bool
}

// newQueueWatch must run in the namespace: its files stay with it.
func newQueueWatch(cfg ListenConfig, queue int) (*queueWatch, error) {
	w := &queueWatch{report: cfg.Alarm, queue: queue, asked: cfg.Queue, always: sysctl("tcp_syncookies") == 2}
	var err error
	if w.mib, err = openMIB(); err != nil {
		return nil, err
	}
	if w.last, err = w.mib.read(); err != nil {
		w.close()
		return nil, err
	}
	if w.sysctl, err = os.Open("/proc/sys/net/ipv4/tcp_fastopen"); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *queueWatch) close() {
	w.mib.Close()
	if w.sysctl != nil {
		w.sysctl.Close()
	}
}

func (w *queueWatch) alarm(a Alarm) {
	a.Time, a.Queue, a.InUse = time.Now(), w.queue, w.inUse()
	w.report(a)
}

func (w *queueWatch) inUse() int { return w.pending + len(w.resting) }

// begin reports what is wrong from the start.
func (w *queueWatch) begin() {
	if w.queue < w.asked {
		w.alarm(Alarm{Kind: AlarmQueueCapped, Count: int64(w.asked)})
	}
	if w.always {
		w.alarm(Alarm{Kind: AlarmSyncookies})
	}
	w.checkBit()
}

// enter and leave follow one TFO child through the queue.
func (w *queueWatch) enter(now int64) {
	w.pending++
	w.rested(now)
	if !w.near && w.inUse()*4 >= w.queue*3 {
		w.near = true
		w.alarm(Alarm{Kind: AlarmQueueNear})
	}
}

func (w *queueWatch) leave(now int64, reset bool) {
	w.pending--
	if reset {
		w.resting = append(w.resting, now+resetRest)
	}
	w.rested(now)
}

// rested lets those go that have rested, and arms the alarm again at half.
func (w *queueWatch) rested(now int64) {
	n := 0
	for n < len(w.resting) && w.resting[n] <= now {
		n++
	}
	w.resting = w.resting[n:]
	if w.inUse()*2 < w.queue {
		w.near = false
	}
}

// tick looks at what the kernel counted since the last one.
func (w *queueWatch) tick(now int64) {
	w.rested(now)
	w.checkBit()
	m, err := w.mib.read()
	if err != nil {
		return // it could be read a moment ago; the next tick sees what this one missed
	}
	moved := m.Since(w.last)
	w.last = m
	for _, c := range []struct {
		kind  AlarmKind
		count int64
	}{
		{AlarmQueueOverflow, moved[CountListenOverflow]},
		{AlarmAcceptOverflow, max(moved[CountAcceptOverflow], moved[CountListenDrops])},
		{AlarmSyncookies, moved[CountSyncookies]},
	} {
		if c.count > 0 {
			w.alarm(Alarm{Kind: c.kind, Count: c.count})
		}
	}
}

// checkBit reports when listeners lose Fast Open.
func (w *queueWatch) checkBit() {
	var b [32]byte
	n, err := w.sysctl.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return
	}
	off := v&SysctlServer == 0
	if off && !w.off {
		w.alarm(Alarm{Kind: AlarmServerOff})
	}
	w.off = off
}
