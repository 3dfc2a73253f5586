package main

import (
	"encoding/json"
	"io"
	"net/netip"
	"time"

	"tfofleet/internal/tfo"
)

// listenJSON writes one object per line. The names are stable; -1 means not
// known, and so does "not_tried". Bytes are hexadecimal.
type listenJSON struct{}

type jsonListening struct {
	Event   string         `json:"event"` // "listening"
	Time    time.Time      `json:"time"`
	Address netip.AddrPort `json:"address"`
	Queue   int            `json:"queue"`
}

type jsonArrival struct {
	Event string `json:"event"` // "connection"
	tfo.ArrivalJSON
}

type jsonAlarm struct {
	Event string `json:"event"` // "alarm"
	tfo.AlarmJSON
	Text string `json:"text"`
	Hint string `json:"hint"`
}

type jsonEnd struct {
	Event string `json:"event"` // "end"
	*listenTally
	Counters map[string]int64 `json:"counters"` // change since the start, by the kernel's name
}

// put writes one line. None of these types can fail to be marshalled, and what
// cannot be written shows when the buffer behind w is flushed.
func (listenJSON) put(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }

func (j listenJSON) listening(w io.Writer, l *tfo.Listener) {
	j.put(w, jsonListening{"listening", time.Now(), l.Addr(), l.Queue()})
}

func (j listenJSON) arrival(w io.Writer, _ int, a *tfo.Arrival) {
	j.put(w, jsonArrival{"connection", a.JSON()})
}

func (j listenJSON) alarm(w io.Writer, a tfo.Alarm) {
	text, hint := alarmText(a)
	j.put(w, jsonAlarm{"alarm", a.JSON(), text, hint})
}

func (j listenJSON) end(w io.Writer, t *listenTally, moved tfo.MIB) {
	counters := map[string]int64{}
	for c := tfo.Counter(0); int(c) < tfo.Counters; c++ {
		counters[c.String()] = moved[c]
	}
	j.put(w, jsonEnd{"end", t, counters})
}
