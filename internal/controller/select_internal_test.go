package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "tfofleet/proto/tfofleet/v1"
)

// fleetOf is probes by name, labels and whether they are connected: "a
// region=fra +" is connected.
func fleetOf(lines ...string) (all []candidate) {
	for _, line := range lines {
		words := strings.Fields(line)
		c := candidate{name: words[0], labels: make(map[string]string)}
		for _, w := range words[1:] {
			if k, v, ok := strings.Cut(w, "="); ok {
				c.labels[k] = v
			}
			c.connected = c.connected || w == "+"
		}
		all = append(all, c)
	}
	return all
}

func TestChoose(t *testing.T) {
	all := fleetOf("a region=fra cloud=x", "b region=fra cloud=y +", "c region=nyc cloud=x", "d region=nyc cloud=x +", "e")
	for _, c := range []struct {
		name string
		sel  *pb.ProbeSelector
		want string // names, or the error
	}{
		{"nothing said", nil, "a b c d e"},
		{"a label", &pb.ProbeSelector{Labels: []string{"region=fra"}}, "a b"},
		{"two values of a label", &pb.ProbeSelector{Labels: []string{"region=fra", "region=nyc"}}, "a b c d"},
		{"two labels", &pb.ProbeSelector{Labels: []string{"region=nyc", "cloud=x"}}, "c d"},
		{"names", &pb.ProbeSelector{Names: []string{"e", "a"}}, "a e"},
		{"names and a label", &pb.ProbeSelector{Names: []string{"a", "d"}, Labels: []string{"region=nyc"}}, "d"},
		{"one per region, a connected one first", &pb.ProbeSelector{Labels: []string{"region=fra", "region=nyc"}, MaxPer: map[string]uint32{"region": 1}}, "b d"},
		{"without the label is a group as well", &pb.ProbeSelector{MaxPer: map[string]uint32{"region": 1}}, "b d e"},
		{"a name that is not there", &pb.ProbeSelector{Names: []string{"a", "x"}}, "no probe that can be given work is called x"},
		{"nothing left", &pb.ProbeSelector{Labels: []string{"region=mars"}}, "no probe is selected"},
		{"no label", &pb.ProbeSelector{Labels: []string{"fra"}}, `label "fra": want KEY=VALUE`},
	} {
		got, err := choose(all, c.sel, 7)
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%s: %q, want %q", c.name, text, c.want)
		}
	}
}

// TestChooseBySeed: which probes of a group take part depends on the seed, on it
// alone, and on every one of them as often as on another.
func TestChooseBySeed(t *testing.T) {
	var all []candidate
	for i := range 10 {
		all = append(all, candidate{name: fmt.Sprintf("probe-%d", i)})
	}
	sel := &pb.ProbeSelector{MaxPer: map[string]uint32{"region": 3}}
	times := make(map[string]int)
	const seeds = 1000
	for seed := range uint64(seeds) {
		a, err := choose(all, sel, seed)
		if err != nil {
			t.Fatal(err)
		}
		b := slices.Clone(all)
		slices.Reverse(b)
		if again, err := choose(b, sel, seed); err != nil || !slices.Equal(a, again) {
			t.Fatalf("seed %d: %v, and in another order %v: %v", seed, a, again, err)
		}
		for _, name := range a {
			times[name]++
		}
	}
	for _, c := range all {
		// 300 expected, a standard deviation of 14.5.
		if n := times[c.name]; n < 230 || n > 370 {
			t.Errorf("%s was chosen %d times of %d, where 300 are to be expected", c.name, n, seeds)
		}
	}
}
