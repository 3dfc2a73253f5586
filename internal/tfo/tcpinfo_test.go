package tfo

import (
	"encoding/binary"
	"testing"
)

// info280 builds a struct tcp_info as Linux 6.18 returns it.
func info280(set func(b []byte)) Info {
	b := make([]byte, 280)
	set(b)
	return b
}

func TestSynAcked(t *testing.T) {
	put64 := func(b []byte, off int, v uint64) { binary.NativeEndian.PutUint64(b[off:], v) }
	tests := []struct {
		name string
		info Info
		n    int
		want int
	}{
		{"all acked", info280(func(b []byte) { b[offOptions] = OptSynData; put64(b, offBytesAcked, 101) }), 100, 100},
		{"none acked, resent at once", info280(func(b []byte) { put64(b, offBytesAcked, 1); put64(b, offBytesRetrans, 100) }), 100, 0},
		{"none acked by the SYN-ACK, the resent data acked since", info280(func(b []byte) { put64(b, offBytesAcked, 101); put64(b, offBytesRetrans, 100) }), 100, 0},
		{"60 of 100", info280(func(b []byte) { put64(b, offBytesAcked, 61); put64(b, offBytesRetrans, 40) }), 100, 60},
		{"60 of 100, the rest acked since", info280(func(b []byte) { put64(b, offBytesAcked, 101); put64(b, offBytesRetrans, 40) }), 100, 60},
		{"resent more than once", info280(func(b []byte) { put64(b, offBytesAcked, 1); put64(b, offBytesRetrans, 300) }), 100, 0},
		{"no data", info280(func(b []byte) { put64(b, offBytesAcked, 1) }), 0, 0},
		{"a kernel that knows none of the fields", Info(make([]byte, 104)), 100, 0},
		{"nothing read", nil, 100, 0},
	}
	for _, tt := range tests {
		if got := tt.info.SynAcked(tt.n); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestClientFailBits(t *testing.T) {
	for v := uint8(0); v < 4; v++ {
		i := info280(func(b []byte) { b[offFlags] = v<<1 | 1 | 0xf8 })
		if i.ClientFail() != v {
			t.Errorf("client fail %d read as %d", v, i.ClientFail())
		}
	}
}

func TestSynTimeoutsOnOldKernels(t *testing.T) {
	old := Info(make([]byte, 232)) // Linux 5.x: no total_rto
	binary.NativeEndian.PutUint32(old[offTotalRetrans:], 1)
	old[offFlags] = FailDataNotAcked << 1
	if n := old.SynTimeouts(); n != 0 {
		t.Errorf("resent SYN data counted as %d SYN timeouts", n)
	}
	old[offFlags] = FailSynRetransmitted << 1
	if n := old.SynTimeouts(); n != 1 {
		t.Errorf("a SYN timeout counted as %d", n)
	}
}

// FuzzInfo: the kernel decides how long the struct is; no length may panic.
func FuzzInfo(f *testing.F) {
	f.Add([]byte{}, 10)
	f.Add(make([]byte, 280), 100)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		i := Info(b)
		_ = i.State() + i.Options() + i.ClientFail()
		_ = i.RTTMicros()
		if i.SynTimeouts() < -1 {
			t.Fatal("negative timeouts")
		}
		if got := i.SynAcked(n); n >= 0 && (got < 0 || got > n) {
			t.Fatalf("acked %d of %d", got, n)
		}
	})
}
