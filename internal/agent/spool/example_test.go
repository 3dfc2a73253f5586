package spool_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"tfofleet/internal/agent/spool"
)

// A probe takes a lease, starts two of its three targets, and is killed before
// the second has a result.
func Example() {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cfg := spool.Config{Path: filepath.Join(dir, "spool.db"), Logger: hclog.NewNullLogger()}
	s, _, err := spool.Open(cfg)
	if err != nil {
		log.Fatal(err)
	}
	lease := spool.Lease{Survey: "weekly", Chunk: 7, Epoch: 1}
	if err := s.Accept(lease, []uint32{0, 1, 2}, []byte("the lease as it came")); err != nil {
		log.Fatal(err)
	}
	// LeaseAccepted goes out now.
	if err := s.Start(lease, 0, 1); err != nil {
		log.Fatal(err)
	}
	// The SYNs of 0 and 1 go out now.
	if err := s.Append(spool.Record{Kind: spool.KindResult, Lease: lease, Items: []uint32{0}, Data: []byte("supported")}); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}

	s, found, err := spool.Open(cfg)
	if err != nil {
		log.Fatal(err)
	}
	for _, h := range found.Leases {
		fmt.Println("lease", h.Lease, "interrupted", h.Interrupted, "never started", h.Fresh)
	}
	records, err := s.Next(context.Background(), 0, 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range records {
		switch r.Kind {
		case spool.KindResult:
			fmt.Println(r.Key.Sequence, r.Kind, r.Lease, r.Items, string(r.Data))
		case spool.KindEvent:
			e, err := spool.ParseEvent(r.Data)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(r.Key.Sequence, r.Kind, e.Kind)
		}
		s.Ack(r.Key) // when the controller has said so
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// lease weekly/7/1 interrupted [1] never started [2]
	// 1 event start
	// 2 result weekly/7/1 [0] supported
	// 3 event stop
	// 4 event start
}
