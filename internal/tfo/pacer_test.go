package tfo

import (
	"testing"
	"time"
)

// TestPacer: slots leave at the rate, an idle pacer saves up no more than its
// burst, and a slot is never in the past.
func TestPacer(t *testing.T) {
	p := newPacer(1000) // one slot per millisecond
	now := int64(time.Second)
	var last int64
	for i := range 100 {
		at := p.slot(now)
		if at < now {
			t.Fatalf("slot %d is %d ns in the past", i, now-at)
		}
		last = at
	}
	// 10 slots of burst at once, then one per millisecond.
	want := now + int64(89*time.Millisecond)
	if d := last - want; d < 0 || d > int64(time.Millisecond) {
		t.Errorf("slot 100 at +%v, want +89ms", time.Duration(last-now))
	}
	later := now + int64(time.Hour)
	immediate := 0
	for range 100 {
		if p.slot(later) == later {
			immediate++
		}
	}
	if immediate > 11 {
		t.Errorf("an hour of idling let %d connections out at once", immediate)
	}
}

func TestPacerUnlimited(t *testing.T) {
	p := newPacer(0)
	for now := range int64(1000) {
		if p.slot(now) != now {
			t.Fatal("an unlimited pacer held a slot back")
		}
	}
}
