package dataset

// fields is told the columns of a row in order. Every form a row is exported
// in is one implementation, so that names and order are the same in all.
type fields interface {
	text(name, v string) // "" is null
	number(name string, v int64)
	optional(name string, v *int64)
	optional32(name string, v *int32)
	list(name string, v []string)
	hex(name string, v []byte)    // empty is null
	base64(name string, v []byte) // empty is null
	time(name string, us *int64)  // µs since the epoch
}

// each gives all columns but the count of attempts: an export has the attempts.
func (r *measurementRow) each(f fields) {
	f.text("survey", r.Survey)
	f.text("probe", r.Probe)
	f.number("chunk", r.Chunk)
	f.number("item", r.Item)
	f.text("target", r.Target)
	f.number("port", int64(r.Port))
	f.text("hostname", r.Hostname)
	f.number("family", int64(r.Family))
	f.text("outcome", r.Outcome)
	f.text("verdict", r.Verdict)
	f.list("conditions", r.Conditions)
	f.hex("cookie", r.Cookie)
	f.time("started", r.Started)
	f.number("duration_us", r.DurationUS)
	f.optional("plain_connect_us", r.PlainConnectUS)
	f.optional("plain_first_byte_us", r.PlainFirstByteUS)
	f.optional("tfo_first_byte_us", r.TFOFirstByteUS)
	f.optional("saved_us", r.SavedUS)
	f.text("probe_address", r.ProbeAddress)
}

// each gives the columns an attempt does not share with its measurement.
func (r *attemptRow) each(f fields) {
	f.number("seq", int64(r.Seq))
	f.text("target", r.Target)
	f.number("port", int64(r.Port))
	f.text("kind", r.Kind)
	f.number("option_kind", int64(r.OptionKind))
	f.text("end", r.End)
	f.time("started", r.Started)
	f.text("local_address", r.LocalAddress)
	f.optional32("local_port", r.localPort())
	f.number("offered_bytes", int64(r.OfferedBytes))
	f.number("syn_bytes", int64(r.SynBytes))
	f.optional32("syn_bytes_acked", r.SynBytesAcked)
	f.text("errno", r.Errno)
	f.optional("connect_us", r.ConnectUS)
	f.optional("first_byte_us", r.FirstByteUS)
	f.optional("total_us", r.TotalUS)
	f.number("syn_retransmits", int64(r.SynRetransmits))
	f.number("data_retransmits", int64(r.DataRetransmits))
	f.optional32("client_fail", r.ClientFail)
	f.optional32("tcpi_options", r.TCPIOptions)
	f.text("cookie_cleared", r.CookieCleared)
	f.text("cookie_before_state", r.CookieBeforeState)
	f.hex("cookie_before", r.CookieBefore)
	f.text("cookie_after_state", r.CookieAfterState)
	f.hex("cookie_after", r.CookieAfter)
	f.number("response_bytes", int64(r.ResponseBytes))
	f.hex("response_hash", r.hash())
	f.text("wire_absent", r.WireAbsent)
	r.eachWire(f)
	f.base64("info_handshake", r.InfoHandshake)
	f.base64("info_final", r.InfoFinal)
}

func (r *attemptRow) hash() []byte {
	if r.ResponseHash == nil {
		return nil
	}
	return r.ResponseHash[:]
}

func (r *attemptRow) localPort() *int32 {
	if r.LocalPort == 0 {
		return nil
	}
	return &r.LocalPort
}
