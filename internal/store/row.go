package store

import (
	"encoding/json"
	"fmt"
	"time"

	"tfofleet/internal/lease"
)

// row is a chunk as a transaction knows it.
type row struct {
	id int64
	Chunk
	written bool
	late    uint32 // how many late files are written
	dirty   bool
}

// leaseRow is the part of lease.State that nothing is looked up by.
type leaseRow struct {
	Epoch     uint64                `json:"epoch,omitempty"`
	Probe     string                `json:"probe,omitempty"`
	Instance  string                `json:"instance,omitempty"`
	Offers    int                   `json:"offers,omitempty"`
	Attempt   int                   `json:"attempt,omitempty"`
	TTL       time.Duration         `json:"ttl,omitempty"`
	Taken     int                   `json:"taken,omitempty"`
	Lapsed    bool                  `json:"lapsed,omitempty"`
	Cancelled bool                  `json:"cancelled,omitempty"`
	Late      map[uint32]lease.Late `json:"late,omitempty"`
	Holders   []string              `json:"holders,omitempty"`
}

// encode is what the columns lease and items hold.
func (r *row) encode() (rest string, items []byte, err error) {
	b, err := json.Marshal(leaseRow{
		r.Epoch, r.Probe, r.Instance, r.Offers, r.Attempt, r.TTL, r.Taken, r.Lapsed, r.Cancelled, r.Late, r.Holders,
	})
	items = make([]byte, len(r.Items))
	for i, item := range r.Items {
		items[i] = byte(item)
	}
	return string(b), items, err
}

// decode is the inverse of encode; both are empty for a chunk that was never
// touched.
func (r *row) decode(rest string, size int, items []byte) error {
	r.Items = make([]lease.Item, size)
	for i, b := range items {
		r.Items[i] = lease.Item(b)
	}
	if rest == "" {
		return nil
	}
	var l leaseRow
	if err := json.Unmarshal([]byte(rest), &l); err != nil {
		return err
	}
	r.Epoch, r.Probe, r.Instance, r.Offers, r.Attempt, r.TTL, r.Taken = l.Epoch, l.Probe, l.Instance, l.Offers, l.Attempt, l.TTL, l.Taken
	r.Lapsed, r.Cancelled, r.Late, r.Holders = l.Lapsed, l.Cancelled, l.Late, l.Holders
	return nil
}

// takesLate reports whether the items of the n-th late file are still to be
// recorded.
func (r *row) takesLate(n uint32, items []lease.Item) (bool, error) {
	if !r.written || len(items) != len(r.Items) || n > r.late+1 {
		return false, fmt.Errorf("survey %s chunk %d, with %d targets and %d late files, is not to get late file %d with %d",
			r.Survey, r.Chunk.Chunk, len(r.Items), r.late, n, len(items))
	}
	return n > r.late, nil
}
