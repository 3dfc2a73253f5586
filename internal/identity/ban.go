package identity

import (
	"context"
	"errors"
	"fmt"
)

// Ban ends a probe or an operator for good: its live streams here end with the
// denial, those at other controllers at their next Recheck, and every call, a
// renewal and a recovery too, is refused. It is ErrNotFound when there is no
// such member.
func (a *Authority) Ban(ctx context.Context, kind Kind, name, reason string) error {
	var m Member
	err := a.cfg.Store.Update(ctx, func(tx Tx) (err error) {
		m, err = tx.Member(kind, name)
		if err != nil || !m.Banned.IsZero() {
			return err
		}
		m.Banned, m.BanReason = tx.Now(), reason
		return tx.PutMember(m)
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, name, err)
	}
	closed := a.live.close(Subject{a.cfg.CA.Fleet(), kind, name}, "", banned(m))
	a.log.Warn("banned", "kind", kind, "name", name, "reason", reason, "streams", closed)
	return nil
}

// Members is all members of the kind by name.
func (a *Authority) Members(ctx context.Context, kind Kind) (members []Member, err error) {
	err = a.cfg.Store.View(ctx, func(r Reader) error {
		members, err = r.Members(kind)
		return err
	})
	return members, err
}

// Recheck ends the live streams whose callers may not call any more: banned at
// another controller, or with a certificate that ran out since, or an operator's
// that a newer one has ended. Every controller has to call it every few seconds.
func (a *Authority) Recheck(ctx context.Context) error {
	holders := a.live.holders()
	ended := make(map[string]*Denial)
	err := a.cfg.Store.View(ctx, func(r Reader) error {
		clear(ended)
		for serial, h := range holders {
			var d *Denial
			if _, _, err := h.standing(r); errors.As(err, &d) {
				ended[serial] = d
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for serial, d := range ended {
		s := holders[serial].subject
		closed := a.live.close(s, serial, d)
		a.log.Warn("streams closed", "kind", s.Kind, "name", s.Name, "reason", d, "streams", closed)
	}
	return nil
}
