package dataset

// measurementRow is one row of the measurements table. Pointers are columns
// where 0 is a value and null is not; an empty string or slice is null.
// SCHEMA.md says what each column means.
type measurementRow struct {
	Survey           string   `parquet:"survey,dict"`
	Probe            string   `parquet:"probe,dict"`
	Chunk            int64    `parquet:"chunk,delta"`
	Item             int64    `parquet:"item,delta"`
	Target           string   `parquet:"target,optional"`
	Port             int32    `parquet:"port,dict"`
	Hostname         string   `parquet:"hostname,optional"`
	Family           int32    `parquet:"family,dict"`
	Outcome          string   `parquet:"outcome,dict"`
	Verdict          string   `parquet:"verdict,optional,dict"`
	Conditions       []string `parquet:"conditions,list" parquet-element:",dict"`
	Cookie           []byte   `parquet:"cookie,optional"`
	Started          *int64   `parquet:"started,timestamp(microsecond)"`
	DurationUS       int64    `parquet:"duration_us,delta"`
	Attempts         int32    `parquet:"attempts,dict"`
	PlainConnectUS   *int64   `parquet:"plain_connect_us"`
	PlainFirstByteUS *int64   `parquet:"plain_first_byte_us"`
	TFOFirstByteUS   *int64   `parquet:"tfo_first_byte_us"`
	SavedUS          *int64   `parquet:"saved_us"`
	ProbeAddress     string   `parquet:"probe_address,optional,dict"`
}

// attemptRow is one row of the attempts table.
type attemptRow struct {
	Survey               string   `parquet:"survey,dict"`
	Probe                string   `parquet:"probe,dict"`
	Chunk                int64    `parquet:"chunk,delta"`
	Item                 int64    `parquet:"item,delta"`
	Seq                  int32    `parquet:"seq,delta"`
	Target               string   `parquet:"target,optional"`
	Port                 int32    `parquet:"port,dict"`
	Kind                 string   `parquet:"kind,dict"`
	OptionKind           int32    `parquet:"option_kind,dict"`
	End                  string   `parquet:"end,dict"`
	Started              *int64   `parquet:"started,timestamp(microsecond)"`
	LocalAddress         string   `parquet:"local_address,optional,dict"`
	LocalPort            int32    `parquet:"local_port,optional"`
	OfferedBytes         int32    `parquet:"offered_bytes,dict"`
	SynBytes             int32    `parquet:"syn_bytes,dict"`
	SynBytesAcked        *int32   `parquet:"syn_bytes_acked,dict"`
	Errno                string   `parquet:"errno,optional,dict"`
	ConnectUS            *int64   `parquet:"connect_us"`
	FirstByteUS          *int64   `parquet:"first_byte_us"`
	TotalUS              *int64   `parquet:"total_us"`
	SynRetransmits       int32    `parquet:"syn_retransmits,dict"`
	DataRetransmits      int32    `parquet:"data_retransmits,dict"`
	ClientFail           *int32   `parquet:"client_fail,dict"`
	TCPIOptions          *int32   `parquet:"tcpi_options,dict"`
	CookieCleared        string   `parquet:"cookie_cleared,dict"`
	CookieBeforeState    string   `parquet:"cookie_before_state,dict"`
	CookieBefore         []byte   `parquet:"cookie_before,optional"`
	CookieAfterState     string   `parquet:"cookie_after_state,dict"`
	CookieAfter          []byte   `parquet:"cookie_after,optional"`
	ResponseBytes        int32    `parquet:"response_bytes,dict"`
	ResponseHash         *[8]byte `parquet:"response_hash"`
	WireAbsent           string   `parquet:"wire_absent,optional,dict"`
	WireSyns             *int32   `parquet:"wire_syns,dict"`
	WireSyn              []byte   `parquet:"wire_syn,optional"`
	WireRetransmitsBare  string   `parquet:"wire_retransmits_bare,optional,dict"`
	WireSynAcks          *int32   `parquet:"wire_syn_acks,dict"`
	WireSynAck           []byte   `parquet:"wire_syn_ack,optional"`
	WireSynAckOptionKind *int32   `parquet:"wire_syn_ack_option_kind,dict"`
	WireSynAckCookie     []byte   `parquet:"wire_syn_ack_cookie,optional"`
	WireAckedBytes       *int32   `parquet:"wire_acked_bytes,dict"`
	WireAfterSyns        *int32   `parquet:"wire_after_syns,dict"`
	WireOverAcked        string   `parquet:"wire_over_acked,optional,dict"`
	WireResets           *int32   `parquet:"wire_resets,dict"`
	WireResetTTL         *int32   `parquet:"wire_reset_ttl,dict"`
	WireResetHandshake   string   `parquet:"wire_reset_handshake,optional,dict"`
	WireICMPErrors       *int32   `parquet:"wire_icmp_errors,dict"`
	WireICMPType         *int32   `parquet:"wire_icmp_type,dict"`
	WireICMPCode         *int32   `parquet:"wire_icmp_code,dict"`
	WireICMPFrom         string   `parquet:"wire_icmp_from,optional,dict"`
	WireIncomplete       string   `parquet:"wire_incomplete,optional,dict"`
	InfoHandshake        []byte   `parquet:"info_handshake,optional"`
	InfoFinal            []byte   `parquet:"info_final,optional"`
}

// targetRow is one row of targets.parquet.
type targetRow struct {
	Item     int64  `parquet:"item,delta"`
	Address  string `parquet:"address,optional"`
	Port     int32  `parquet:"port,dict"`
	Hostname string `parquet:"hostname,optional"`
}
