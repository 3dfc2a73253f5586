package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"time"
)

// ErrInvalid: what was asked for cannot be. Errors that are it say why.
var ErrInvalid = errors.New("invalid")

type invalid struct{ error }

func (invalid) Is(target error) bool { return target == ErrInvalid }

// TokenSpec is what a join token is to be.
type TokenSpec struct {
	Addresses []string // of controllers, host:port
	Uses      int
	TTL       time.Duration
	Labels    Labels
	// Prefix of the names of its probes; empty means "probe".
	Prefix string
}

// maxPrefix leaves room in a name for what makes it unique.
const maxPrefix = 40

func (s *TokenSpec) check() error {
	if s.Prefix == "" {
		s.Prefix = "probe"
	}
	switch {
	case s.Uses < 1:
		return errors.New("a join token needs at least one use")
	case s.TTL <= 0:
		return errors.New("a join token needs a time to live")
	case !ValidName(s.Prefix) || len(s.Prefix) > maxPrefix:
		return fmt.Errorf("%.80q cannot begin a probe's name: a to z, 0 to 9 and -, at most %d", s.Prefix, maxPrefix)
	}
	return CheckAddresses(s.Addresses)
}

// CreateToken makes a join token, whose secret is nowhere else afterwards. It is
// ErrInvalid when there can be none like that.
func (a *Authority) CreateToken(ctx context.Context, spec TokenSpec) (JoinToken, error) {
	if err := spec.check(); err != nil {
		return JoinToken{}, invalid{err}
	}
	id, err := random(idSize)
	if err != nil {
		return JoinToken{}, err
	}
	secret := make([]byte, secretSize)
	if _, err := rand.Read(secret); err != nil {
		return JoinToken{}, err
	}
	err = a.cfg.Store.Update(ctx, func(tx Tx) error {
		return tx.PutToken(Token{
			ID: id, SecretHash: tokenHash(secret), Uses: spec.Uses, Labels: maps.Clone(spec.Labels), Prefix: spec.Prefix,
			Created: tx.Now(), Expires: tx.Now().Add(spec.TTL).Truncate(time.Microsecond),
		})
	})
	if err != nil {
		return JoinToken{}, err
	}
	a.log.Info("join token created", "token", id, "uses", spec.Uses, "ttl", spec.TTL, "labels", spec.Labels)
	return JoinToken{Addresses: spec.Addresses, Pin: a.cfg.CA.Pin(), ID: id, Secret: NewSecret(secret)}, nil
}

// Tokens is all tokens, oldest first.
func (a *Authority) Tokens(ctx context.Context) (tokens []Token, err error) {
	err = a.cfg.Store.View(ctx, func(r Reader) error {
		tokens, err = r.Tokens()
		return err
	})
	return tokens, err
}

// RevokeToken ends a token: it lets nobody in any more. Who is in, stays in, see
// Ban. It is ErrNotFound when there is no such token.
func (a *Authority) RevokeToken(ctx context.Context, id string) error {
	err := a.cfg.Store.Update(ctx, func(tx Tx) error {
		t, err := tx.Token(id)
		if err != nil || !t.Revoked.IsZero() {
			return err
		}
		t.Revoked = tx.Now()
		return tx.PutToken(t)
	})
	if err != nil {
		return fmt.Errorf("join token %s: %w", id, err)
	}
	a.log.Info("join token revoked", "token", id)
	return nil
}

// refuses says why the token lets no other probe in; nil when it does.
func (t Token) refuses(now time.Time) *Denial {
	switch {
	case !t.Revoked.IsZero():
		return deny(TokenRevoked, "")
	case !now.Before(t.Expires):
		return deny(TokenExpired, "make a new one")
	case t.Used >= t.Uses:
		return deny(TokenExhausted, "it was good for "+plural(t.Uses)+", and another probe took the last")
	}
	return nil
}

func plural(uses int) string {
	if uses == 1 {
		return "one use"
	}
	return fmt.Sprintf("%d uses", uses)
}
