package main

import (
	"encoding/hex"
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
	Event string         `json:"event"` // "connection"
	Time  time.Time      `json:"time"`
	Peer  netip.AddrPort `json:"peer"`
	Local netip.AddrPort `json:"local"`

	Syn        *jsonSYN `json:"syn"` // null when the kernel kept none
	OptionKind uint8    `json:"option_kind"`
	Cookie     string   `json:"cookie"`
	Claim      string   `json:"claim"`
	Child      tfo.Tri  `json:"child"`
	ChildBit   bool     `json:"tfo_child"`
	SynDataBit bool     `json:"syn_data"`
	SynBytes   int      `json:"syn_bytes"`
	SynTaken   int      `json:"syn_bytes_taken"`
	AtAccept   int      `json:"bytes_at_accept"`

	RequestKind   string  `json:"request_kind"`
	RequestBytes  int     `json:"request_bytes"`
	Request       string  `json:"request"`
	ResponseBytes int     `json:"response_bytes"`
	ResponseAcked int     `json:"response_bytes_acked"`
	AnsweredEarly tfo.Tri `json:"answered_early"`

	HandshakeNS int64  `json:"handshake_ns"`
	RequestNS   int64  `json:"request_ns"`
	TotalNS     int64  `json:"total_ns"`
	End         string `json:"end"`
	Errno       string `json:"errno"`
	InfoAccept  string `json:"tcp_info_accept"`
	InfoFinal   string `json:"tcp_info_final"`
}

type jsonSYN struct {
	Raw         string `json:"raw"`
	TTL         uint8  `json:"ttl"`
	TOS         uint8  `json:"tos"`
	Seq         uint32 `json:"seq"`
	Flags       uint8  `json:"flags"`
	Window      uint16 `json:"window"`
	MSS         uint16 `json:"mss"`
	WindowScale int8   `json:"window_scale"`
	SACK        bool   `json:"sack_permitted"`
	Timestamps  bool   `json:"timestamps"`
	Malformed   bool   `json:"malformed"`
}

type jsonAlarm struct {
	Event string    `json:"event"` // "alarm"
	Time  time.Time `json:"time"`
	Kind  string    `json:"kind"`
	Queue int       `json:"queue"`
	InUse int       `json:"in_use"`
	Count int64     `json:"count"`
	Errno string    `json:"errno"`
	Text  string    `json:"text"`
	Hint  string    `json:"hint"`
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
	out := jsonArrival{
		Event: "connection", Time: a.Accepted, Peer: a.Peer, Local: a.Local,
		Claim: a.Claim.String(), Child: a.Child, ChildBit: a.Options()&tfo.OptTFOChild != 0, SynDataBit: a.Options()&tfo.OptSynData != 0,
		SynBytes: a.SynBytes, SynTaken: a.SynTaken, AtAccept: a.AtAccept,
		RequestKind: a.RequestKind.String(), RequestBytes: a.RequestBytes, Request: hex.EncodeToString(a.Request),
		ResponseBytes: a.ResponseBytes, ResponseAcked: a.ResponseAcked, AnsweredEarly: a.AnsweredEarly,
		HandshakeNS: a.HandshakeNS, RequestNS: a.RequestNS, TotalNS: a.TotalNS, End: a.End.String(), Errno: a.Errno,
		InfoAccept: hex.EncodeToString(a.InfoAccept), InfoFinal: hex.EncodeToString(a.InfoFinal),
	}
	if s := &a.SYN; s.Raw != nil {
		o := &s.Options
		out.OptionKind, out.Cookie = o.FastOpenKind, hex.EncodeToString(o.FastOpen().Cookie)
		out.Syn = &jsonSYN{
			Raw: hex.EncodeToString(s.Raw), TTL: s.TTL, TOS: s.TOS, Seq: s.Seq, Flags: s.Flags, Window: s.Window,
			MSS: o.MSS, WindowScale: o.WindowScale, SACK: o.SACKPermitted, Timestamps: o.Timestamps, Malformed: o.Malformed,
		}
	}
	j.put(w, out)
}

func (j listenJSON) alarm(w io.Writer, a tfo.Alarm) {
	text, hint := alarmText(a)
	j.put(w, jsonAlarm{"alarm", a.Time, a.Kind.String(), a.Queue, a.InUse, a.Count, a.Errno, text, hint})
}

func (j listenJSON) end(w io.Writer, t *listenTally, moved tfo.MIB) {
	counters := map[string]int64{}
	for c := tfo.Counter(0); int(c) < tfo.Counters; c++ {
		counters[c.String()] = moved[c]
	}
	j.put(w, jsonEnd{"end", t, counters})
}
