package dataset

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// heardMesh is sampleMesh with what its server saw: a plain connection of the
// measurement, somebody else's, and an alarm.
func heardMesh(t *testing.T) []MeshRow {
	t.Helper()
	rows := sampleMesh("m")
	payload := measure.TaggedPayload(measure.PayloadHTTP, nil, measure.Target{Addr: rows[0].Address, Port: 443}, measure.Tag{Nonce: rows[0].Nonce, Attempt: 3}).Bytes
	syn, err := tfo.DecodeSYN([]byte{
		0x45, 0, 0, 48, 0, 1, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 1, 192, 0, 2, 7,
		0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 9, 0, 0, 0, 0, 0x70, 2, 0xfa, 0xf0, 0, 0, 0, 0, 2, 4, 5, 0xb4, 34, 2, 1, 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 20, 12, 0, 1, 5000, time.UTC)
	a := tfo.Arrival{
		Accepted: at, Peer: netip.MustParseAddrPort("198.51.100.1:40000"), Local: netip.MustParseAddrPort("192.0.2.7:443"), SYN: syn, Claim: tfo.ClaimRequest,
		Child: tfo.No, Request: payload, RequestBytes: len(payload), RequestKind: tfo.RequestHTTP, ResponseBytes: 7, ResponseAcked: 7, AnsweredEarly: tfo.No,
		RequestNS: 100, TotalNS: 200, End: tfo.ArrivalServed,
	}
	other := tfo.Arrival{Accepted: at, Peer: a.Peer, Local: a.Local, SynBytes: tfo.NotKnown, HandshakeNS: tfo.NotKnown, RequestNS: tfo.NotKnown, End: tfo.ArrivalClosed}
	alarm := tfo.Alarm{Kind: tfo.AlarmQueueOverflow, Time: at, Queue: 16, Count: 2}
	rows[0].Evidence, err = measure.EncodeArrivals(&pb.ArrivalBatch{
		Arrivals: []*pb.Arrival{measure.ArrivalToWire(&a), measure.ArrivalToWire(&other)}, Alarms: []*pb.ListenerAlarm{measure.AlarmToWire(alarm)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// What is exported of pairs is an interface: others parse it. It has every
// column of the table, and in place of the evidence what is in it.
func TestExportPairs(t *testing.T) {
	w := newDataset(t)
	if got := exported(t, w.Dir(), Pairs); got != "" {
		t.Errorf("of a dataset without a mesh: %s", got)
	}
	if err := w.WriteMesh(heardMesh(t)); err != nil {
		t.Fatal(err)
	}
	got := exported(t, w.Dir(), Pairs)
	golden := filepath.Join("testdata", "export.mesh")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
	var columns []string
	for f := range reflect.TypeFor[meshRow]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("parquet"), ",")
		columns = append(columns, name)
	}
	columns = append(slices.DeleteFunc(columns, func(c string) bool { return c == "evidence" }), "arrivals", "alarms")
	for line := range strings.Lines(got) {
		var names []string
		d := json.NewDecoder(strings.NewReader(line))
		for depth := 0; ; {
			token, err := d.Token()
			if err != nil {
				break
			}
			if delim, ok := token.(json.Delim); ok {
				depth += map[json.Delim]int{'{': 1, '[': 1, '}': -1, ']': -1}[delim]
				continue
			}
			if name, ok := token.(string); ok && depth == 1 && slices.Contains(columns, name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if !slices.Equal(names, columns) {
			t.Errorf("fields %q, want %q", names, columns)
		}
	}
}

// Evidence that cannot be read is an error that names the file and the pair.
func TestExportPairsDamaged(t *testing.T) {
	w := newDataset(t)
	if err := w.WriteMesh(sampleMesh("m")); err != nil {
		t.Fatal(err)
	}
	err := Export(w.Dir(), Pairs, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "m.parquet: evidence of ams-1 to fra-1: ") {
		t.Error(err)
	}
}
