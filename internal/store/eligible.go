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
	chunks uint32   // of the list
	probes []string // sorted
}

func termsOf(s Survey) terms {
	return terms{s.Spec.GetRepeatInterrupted(), s.Mode, s.Copies, s.List.Chunks(), s.Probes}
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

// nextOfCopies finds what a probe gets of a survey of copies: the first source
// of which there is something for it, and the chunk. It is one look at the index
// for each source, and both databases understand it. $1 is the survey, $2 the
// first source to look at, $3 how many there are, $4 the probe. It does not name
// the survey of a chunk: a planner that knows little of the table would take
// another index, with all that is pending.
//
// Of a source that the probe was offered a copy of, it gets that copy, else one
// that nobody was offered, and only then, when there is none, another one. That a
// copy waits for its first probe means that it is pending: so there is nothing of
// a source for the probe until a chunk of it becomes pending again.
const nextOfCopies = `WITH RECURSIVE s(source) AS (SELECT CAST($2 AS bigint) UNION ALL SELECT source + 1 FROM s WHERE source + 1 < $3)
	SELECT source, chunk FROM (SELECT source, (SELECT chunk FROM chunk AS c
		WHERE c.shared = CAST($1 AS text) || '/' || s.source AND c.phase = 1
		AND c.copy = coalesce((SELECT taken.copy FROM taken WHERE taken.survey = $1 AND taken.source = s.source AND taken.probe = $4), c.copy)
		ORDER BY c.lease IS NOT NULL AND EXISTS (SELECT 1 FROM taken WHERE taken.survey = $1 AND taken.source = s.source AND taken.copy = c.copy), chunk LIMIT 1) AS chunk
	FROM s) AS next WHERE chunk IS NOT NULL LIMIT 1`

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
