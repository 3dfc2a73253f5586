package tfo

import (
	"encoding/hex"
	"net/netip"
	"time"
)

// ArrivalJSON is an arrival as our programs write it. The names are stable; -1
// means not known, and so does "not_tried". Bytes are hexadecimal.
type ArrivalJSON struct {
	Time  time.Time      `json:"time"`
	Peer  netip.AddrPort `json:"peer"`
	Local netip.AddrPort `json:"local"`

	Syn        *SYNJSON `json:"syn"` // null when the kernel kept none
	OptionKind uint8    `json:"option_kind"`
	Cookie     string   `json:"cookie"`
	Claim      string   `json:"claim"`
	Child      Tri      `json:"child"`
	ChildBit   bool     `json:"tfo_child"`
	SynDataBit bool     `json:"syn_data"`
	SynBytes   int      `json:"syn_bytes"`
	SynTaken   int      `json:"syn_bytes_taken"`
	AtAccept   int      `json:"bytes_at_accept"`

	RequestKind   string `json:"request_kind"`
	RequestBytes  int    `json:"request_bytes"`
	Request       string `json:"request"`
	ResponseBytes int    `json:"response_bytes"`
	ResponseAcked int    `json:"response_bytes_acked"`
	AnsweredEarly Tri    `json:"answered_early"`

	HandshakeNS int64  `json:"handshake_ns"`
	RequestNS   int64  `json:"request_ns"`
	TotalNS     int64  `json:"total_ns"`
	End         string `json:"end"`
	Errno       string `json:"errno"`
	InfoAccept  string `json:"tcp_info_accept"`
	InfoFinal   string `json:"tcp_info_final"`
}

// SYNJSON is the SYN of one, as it arrived.
type SYNJSON struct {
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

// JSON is the arrival for encoding/json.
func (a *Arrival) JSON() ArrivalJSON {
	out := ArrivalJSON{
		Time: a.Accepted, Peer: a.Peer, Local: a.Local,
		Claim: a.Claim.String(), Child: a.Child, ChildBit: a.Options()&OptTFOChild != 0, SynDataBit: a.Options()&OptSynData != 0,
		SynBytes: a.SynBytes, SynTaken: a.SynTaken, AtAccept: a.AtAccept,
		RequestKind: a.RequestKind.String(), RequestBytes: a.RequestBytes, Request: hex.EncodeToString(a.Request),
		ResponseBytes: a.ResponseBytes, ResponseAcked: a.ResponseAcked, AnsweredEarly: a.AnsweredEarly,
		HandshakeNS: a.HandshakeNS, RequestNS: a.RequestNS, TotalNS: a.TotalNS, End: a.End.String(), Errno: a.Errno,
		InfoAccept: hex.EncodeToString(a.InfoAccept), InfoFinal: hex.EncodeToString(a.InfoFinal),
	}
	if s := &a.SYN; s.Raw != nil {
		o := &s.Options
		out.OptionKind, out.Cookie = o.FastOpenKind, hex.EncodeToString(o.FastOpen().Cookie)
		out.Syn = &SYNJSON{
			Raw: hex.EncodeToString(s.Raw), TTL: s.TTL, TOS: s.TOS, Seq: s.Seq, Flags: s.Flags, Window: s.Window,
			MSS: o.MSS, WindowScale: o.WindowScale, SACK: o.SACKPermitted, Timestamps: o.Timestamps, Malformed: o.Malformed,
		}
	}
	return out
}

// AlarmJSON is an alarm as our programs write it.
type AlarmJSON struct {
	Time  time.Time `json:"time"`
	Kind  string    `json:"kind"`
	Queue int       `json:"queue"`
	InUse int       `json:"in_use"`
	Count int64     `json:"count"`
	Errno string    `json:"errno"`
}

// JSON is the alarm for encoding/json.
func (a Alarm) JSON() AlarmJSON {
	return AlarmJSON{a.Time, a.Kind.String(), a.Queue, a.InUse, a.Count, a.Errno}
}
