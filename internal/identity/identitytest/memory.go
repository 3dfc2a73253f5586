package identitytest

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"tfofleet/internal/identity"
)

// Memory is a Store in memory. It runs every update twice and throws the first
// run away: nobody may count on being run once.
type Memory struct {
	// Fail is asked before a transaction is committed, if it is set.
	Fail func() error
	// BeforeView is called before a view begins, if it is set.
	BeforeView func()

	now   func() time.Time
	mu    sync.Mutex
	state *state
	// Updates and Views that were committed.
	Updates, Views int
}

// NewMemory makes an empty store with the clock.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, state: &state{
		tokens:       map[string]identity.Token{},
		members:      map[memberKey]identity.Member{},
		certificates: map[string]identity.Certificate{},
	}}
}

// View implements identity.Store.
func (s *Memory) View(ctx context.Context, do func(identity.Reader) error) error {
	if s.BeforeView != nil {
		s.BeforeView()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	s.Views++
	return do(s.state.clone(s.now()))
}

// Update implements identity.Store.
func (s *Memory) Update(ctx context.Context, do func(identity.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	now := s.now()
	_ = do(s.state.clone(now))
	next := s.state.clone(now)
	if err := do(next); err != nil {
		return err
	}
	if s.Fail != nil {
		if err := s.Fail(); err != nil {
			return err
		}
	}
	s.state = next
	s.Updates++
	return nil
}

type memberKey struct {
	kind identity.Kind
	name string
}

// state is all records. It is the Tx of a run that has a copy of its own.
type state struct {
	at           time.Time
	fleet        string
	tokens       map[string]identity.Token
	members      map[memberKey]identity.Member
	certificates map[string]identity.Certificate
}

// clone copies the maps; what is in a record is copied where it goes in or out.
func (s *state) clone(at time.Time) *state {
	return &state{at.UTC().Truncate(time.Microsecond), s.fleet, maps.Clone(s.tokens), maps.Clone(s.members), maps.Clone(s.certificates)}
}

func (s *state) Now() time.Time { return s.at }

func (s *state) Fleet() (string, error) {
	if s.fleet == "" {
		return "", identity.ErrNotFound
	}
	return s.fleet, nil
}

func (s *state) PutFleet(fleet string) error {
	s.fleet = fleet
	return nil
}

func copyToken(t identity.Token) identity.Token {
	t.Labels = maps.Clone(t.Labels)
	return t
}

func (s *state) Token(id string) (identity.Token, error) {
	t, ok := s.tokens[id]
	if !ok {
		return t, identity.ErrNotFound
	}
	return copyToken(t), nil
}

func (s *state) Tokens() ([]identity.Token, error) {
	var all []identity.Token
	for _, t := range s.tokens {
		all = append(all, copyToken(t))
	}
	slices.SortFunc(all, func(a, b identity.Token) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

func (s *state) PutToken(t identity.Token) error {
	s.tokens[t.ID] = copyToken(t)
	return nil
}

func copyMember(m identity.Member) identity.Member {
	m.Labels = maps.Clone(m.Labels)
	m.IdentityKey = bytes.Clone(m.IdentityKey)
	return m
}

func (s *state) Member(kind identity.Kind, name string) (identity.Member, error) {
	m, ok := s.members[memberKey{kind, name}]
	if !ok {
		return m, identity.ErrNotFound
	}
	return copyMember(m), nil
}

func (s *state) MemberByIdentity(key []byte) (identity.Member, error) {
	for _, m := range s.members {
		if len(key) > 0 && bytes.Equal(m.IdentityKey, key) {
			return copyMember(m), nil
		}
	}
	return identity.Member{}, identity.ErrNotFound
}

func (s *state) Members(kind identity.Kind) ([]identity.Member, error) {
	var all []identity.Member
	for k, m := range s.members {
		if k.kind == kind {
			all = append(all, copyMember(m))
		}
	}
	slices.SortFunc(all, func(a, b identity.Member) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

func (s *state) PutMember(m identity.Member) error {
	s.members[memberKey{m.Kind, m.Name}] = copyMember(m)
	return nil
}

func copyCertificate(c identity.Certificate) identity.Certificate {
	c.DER = bytes.Clone(c.DER)
	return c
}

func (s *state) Certificate(serial string) (identity.Certificate, error) {
	c, ok := s.certificates[serial]
	if !ok {
		return c, identity.ErrNotFound
	}
	return copyCertificate(c), nil
}

func (s *state) CertificateByKey(hash identity.Hash) (identity.Certificate, error) {
	for _, c := range s.certificates {
		if c.KeyHash == hash {
			return copyCertificate(c), nil
		}
	}
	return identity.Certificate{}, identity.ErrNotFound
}

func (s *state) PutCertificate(c identity.Certificate) error {
	s.certificates[c.Serial] = copyCertificate(c)
	return nil
}

// Forget drops a member, as no controller ever does.
func (s *Memory) Forget(kind identity.Kind, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.state.members[memberKey{kind, name}]; !ok {
		return identity.ErrNotFound
	}
	delete(s.state.members, memberKey{kind, name})
	return nil
}
