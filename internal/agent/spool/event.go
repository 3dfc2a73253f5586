package spool

import (
	"errors"
	"fmt"
)

// EventKind says what happened to the probe itself. Values are stored and only
// ever added.
type EventKind uint8

const (
	EventStart        EventKind = 1 // recorded by Open
	EventStop         EventKind = 2 // recorded by Close
	EventCrashFound   EventKind = 3 // recorded by Open: the last process did not close the spool
	EventRestored     EventKind = 4 // recorded by Reconcile: the file is older than what the controller has
	EventPolicyReload EventKind = 5
	EventClockJump    EventKind = 6
	EventSelfTest     EventKind = 7
)

var eventNames = [...]string{
	EventStart: "start", EventStop: "stop", EventCrashFound: "crash_found", EventRestored: "restored",
	EventPolicyReload: "policy_reload", EventClockJump: "clock_jump", EventSelfTest: "self_test",
}

func (k EventKind) String() string {
	if int(k) < len(eventNames) && eventNames[k] != "" {
		return eventNames[k]
	}
	return fmt.Sprintf("event %d", uint8(k))
}

// Event is what the Data of a record of KindEvent holds. Dropped records are
// told by gaps, not by events.
type Event struct {
	Kind   EventKind
	Detail string // for people
}

// Data is the event as the Data of a record.
func (e Event) Data() []byte { return append([]byte{byte(e.Kind)}, e.Detail...) }

// ParseEvent is the inverse of Data. Kinds of a newer probe pass.
func ParseEvent(data []byte) (Event, error) {
	if len(data) == 0 || data[0] == 0 {
		return Event{}, errors.New("an event without a kind")
	}
	return Event{EventKind(data[0]), string(data[1:])}, nil
}
