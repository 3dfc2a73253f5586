package spool

import (
	"fmt"
	"path/filepath"
	"testing"
)

// BenchmarkAppend makes records durable, in transactions of 64 and in those
// that form by themselves, and acknowledges them. A record is a batch of
// results as it is sent, of 512 bytes.
func BenchmarkAppend(b *testing.B) {
	for _, group := range []int{groupRecords, 0} {
		b.Run(fmt.Sprintf("group=%d", group), func(b *testing.B) {
			s, _, err := Open(config(filepath.Join(b.TempDir(), "spool.db")))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			commits := 0
			s.fault = func() error { commits++; return nil }
			data := make([]byte, 512)
			id := s.Status().ID
			for i := 0; b.Loop(); i++ {
				if err := s.Append(Record{Kind: KindResult, Lease: leaseA, Items: []uint32{uint32(i % maxIndex)}, Data: data}); err != nil {
					b.Fatal(err)
				}
				s.Ack(Key{id, uint32ToSequence(i)})
				if every := max(group, 4096); group > 0 && i%group == group-1 || i%every == every-1 {
					if err := s.Sync(); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := s.Sync(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(b.N)/float64(commits), "records/commit")
		})
	}
}

// uint32ToSequence acknowledges a record that is some thousand back.
func uint32ToSequence(i int) uint64 { return uint64(max(0, i-8192)) }

// BenchmarkStart marks targets in groups of 64 of a lease of 8192.
func BenchmarkStart(b *testing.B) {
	s, _, err := Open(config(filepath.Join(b.TempDir(), "spool.db")))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	all := make([]uint32, 8192)
	for i := range all {
		all[i] = uint32(i)
	}
	name := Lease{Survey: "survey"}
	n := 0
	for b.Loop() {
		if n%128 == 0 {
			name.Chunk++
			if err := s.Accept(name, all, nil); err != nil {
				b.Fatal(err)
			}
		}
		i := n % 128 * 64
		if err := s.Start(name, all[i:i+64]...); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(64*float64(b.N)/b.Elapsed().Seconds(), "targets/s")
}
