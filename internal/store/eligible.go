package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"tfofleet/internal/identity"
)

// terms are what never changes of a survey and its claims and leases need.
type terms struct {
	repeat bool
	mode   Mode
	copies int
	probes []string // sorted
}

func termsOf(s Survey) terms {
	return terms{s.Spec.GetRepeatInterrupted(), s.Mode, s.Copies, s.Probes}
}

// selects reports whether a probe may measure something of the survey.
func (s terms) selects(probe string) bool {
	if len(s.probes) == 0 {
		return true
	}
	_, found := slices.BinarySearch(s.probes, probe)
	return found
}

// complete fills in what follows from the rest of a new survey.
func (s Survey) complete() (Survey, error) {
	s.Probes = slices.Compact(slices.Sorted(slices.Values(s.Probes)))
	switch s.Mode {
	case 0, Shard:
		s.Mode, s.Copies = Shard, 1
	case Every:
		s.Copies = len(s.Probes)
	}
	if s.Copies < 1 || s.Mode != Shard && s.Copies > len(s.Probes) {
		return s, fmt.Errorf("survey %s: %d copies for %d probes", s.ID, s.Copies, len(s.Probes))
	}
	return s, nil
}

// pins are the pins of the chunks of every copy.
func (s Survey) pins() []string {
	if s.Mode == Every {
		return s.Probes
	}
	return make([]string, s.Copies)
}

// What a probe may claim of a survey of copies: SQL that both databases
// understand. $1 is the survey, $2 the first chunk to look at, $3 the probe, $4
// the number of copies.
const (
	// copyCandidates: the probe was offered no other copy of the source. That
	// never changes back.
	copyCandidates = ` FROM chunk AS c WHERE survey = $1 AND phase = 1 AND pin = '' AND chunk >= $2
		AND NOT EXISTS (SELECT 1 FROM taken WHERE taken.survey = c.survey AND taken.source = c.source AND taken.probe = $3 AND taken.copy <> c.copy)`
	// copyFree: nobody was offered this copy, or the probe was, or no copy of the
	// source waits for its first probe.
	copyFree = `(NOT EXISTS (SELECT 1 FROM taken WHERE taken.survey = c.survey AND taken.source = c.source AND taken.copy = c.copy)
		OR EXISTS (SELECT 1 FROM taken WHERE taken.survey = c.survey AND taken.source = c.source AND taken.probe = $3)
		OR (SELECT count(DISTINCT taken.copy) FROM taken WHERE taken.survey = c.survey AND taken.source = c.source) >= $4)`

	firstCandidate = `SELECT chunk, ` + copyFree + copyCandidates + ` ORDER BY chunk LIMIT 1`
	firstFree      = `SELECT chunk` + copyCandidates + ` AND ` + copyFree + ` ORDER BY chunk LIMIT 1`
)

// part is a chunk, as far as it matters who may measure it.
type part struct {
	chunk, source, copy uint32
	pin                 string
}

// takers are, of each source, the probes that were offered a copy and which.
type takers map[uint32]map[string]uint32

func (t takers) add(source, copy uint32, probe string) {
	if t[source] == nil {
		t[source] = make(map[string]uint32)
	}
	t[source][probe] = copy
}

// any reports whether a selected probe for which is holds may measure the part.
// It is the rule of Claim.
func (s terms) any(p part, t takers, is func(probe string) bool) bool {
	if p.pin != "" {
		return is(p.pin)
	}
	if s.mode != Copies {
		return slices.ContainsFunc(s.probes, is)
	}
	begun := make(map[uint32]bool)
	for _, copy := range t[p.source] {
		begun[copy] = true
	}
	open := !begun[p.copy] || len(begun) >= s.copies
	return slices.ContainsFunc(s.probes, func(probe string) bool {
		copy, had := t[p.source][probe]
		return (had && copy == p.copy || !had && open) && is(probe)
	})
}

// missing are the names, at most n, of probes that parts wait for.
func (s terms) missing(parts []part, t takers, live map[string]bool, n int) []string {
	found := make(map[string]bool)
	for _, p := range parts {
		if s.any(p, t, func(probe string) bool { return live[probe] }) {
			continue
		}
		s.any(p, t, func(probe string) bool {
			found[probe] = true
			return false
		})
	}
	names := slices.Sorted(maps.Keys(found))
	return names[:min(n, len(names))]
}

// pinned are the parts that only the probe may measure.
func (s terms) pinned(survey, probe string, parts []part, t takers, banned map[string]bool) (keys []Key) {
	if !s.selects(probe) || len(s.probes) == 0 {
		return nil
	}
	for _, p := range parts {
		if s.any(p, t, func(name string) bool { return name == probe }) &&
			!s.any(p, t, func(name string) bool { return name != probe && !banned[name] }) {
			keys = append(keys, Key{survey, p.chunk})
		}
	}
	return keys
}

// bannedProbes are members of the kind.
const (
	kindProbe    = int64(identity.KindProbe)
	bannedProbes = `SELECT name FROM member WHERE kind = $1 AND banned IS NOT NULL`
)

func noSession(probe, id string) error {
	return fmt.Errorf("session %s of probe %s: %w", id, probe, ErrNotFound)
}

func sortKeys(keys []Key) {
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Survey, b.Survey), cmp.Compare(a.Chunk, b.Chunk))
	})
}
