package tfo

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestTimers: whatever is set, moved and cleared, timers fire once, in order,
// and never before their time.
func TestTimers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h timerHeap
		timers := make([]flowTimer, 8)
		for i := range timers {
			timers[i].index = -1
		}
		want := map[*flowTimer]int64{}
		var now int64
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				x := &timers[rapid.IntRange(0, len(timers)-1).Draw(t, "timer")]
				at := now + rapid.Int64Range(0, 1000).Draw(t, "at")
				h.set(x, at)
				want[x] = at
			},
			"clear": func(t *rapid.T) {
				x := &timers[rapid.IntRange(0, len(timers)-1).Draw(t, "timer")]
				h.clear(x)
				delete(want, x)
			},
			"advance": func(t *rapid.T) {
				now += rapid.Int64Range(0, 500).Draw(t, "by")
				var fired []int64
				for x := h.expired(now); x != nil; x = h.expired(now) {
					if at, ok := want[x]; !ok || at > now {
						t.Fatalf("fired at %d: running %v, due %d", now, ok, at)
					}
					fired = append(fired, want[x])
					delete(want, x)
				}
				if !slices.IsSorted(fired) {
					t.Fatalf("fired out of order: %v", fired)
				}
			},
			"": func(t *rapid.T) {
				if len(h) != len(want) {
					t.Fatalf("%d timers run, want %d", len(h), len(want))
				}
			},
		})
	})
}

func TestWaitRoundsUp(t *testing.T) {
	var h timerHeap
	if h.waitMS(0) != -1 {
		t.Error("no timer should wait for ever")
	}
	h.set(&flowTimer{index: -1}, int64(1500*time.Microsecond))
	if got := h.waitMS(0); got != 2 {
		t.Errorf("1.5 ms waits %d ms, want 2", got)
	}
	if got := h.waitMS(int64(time.Second)); got != 0 {
		t.Errorf("an overdue timer waits %d ms", got)
	}
}
