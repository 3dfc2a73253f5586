package blame

// Tally counts judgements.
type Tally struct {
	N         uint64
	stability [len(stabilities)]uint64
	side      [len(sides)]uint64
}

// Add counts one.
func (t *Tally) Add(j Judgement) {
	t.N++
	t.stability[j.Stability]++
	t.side[j.Blame]++
}

// Merge adds what u has counted.
func (t *Tally) Merge(u *Tally) {
	t.N += u.N
	for i, n := range u.stability {
		t.stability[i] += n
	}
	for i, n := range u.side {
		t.side[i] += n
	}
}

// Stability is how many targets are so.
func (t *Tally) Stability(s Stability) uint64 { return t.stability[s] }

// Blame is how many targets that side is to blame for.
func (t *Tally) Blame(s Side) uint64 { return t.side[s] }
