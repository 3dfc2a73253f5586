package store

import (
	"time"

	"tfofleet/internal/identity"
)

// records is what identityTx needs of a database. Both understand its SQL.
type records interface {
	exec(query string, args ...any) error
	// each calls row for every row, with what scans it.
	each(query string, args []any, row func(scan func(dest ...any) error) error) error
}

// identityTx is an identity.Tx over a transaction.
type identityTx struct {
	db  records
	now time.Time
}

var _ identity.Tx = identityTx{}

func (t identityTx) Now() time.Time { return t.now }

// find is the rows of a query.
func find[T any](t identityTx, read func(scan func(...any) error) (T, error), query string, args ...any) (found []T, err error) {
	err = t.db.each(query, args, func(scan func(...any) error) error {
		v, err := read(scan)
		found = append(found, v)
		return err
	})
	return found, err
}

// findOne is the only row of a query, or ErrNotFound.
func findOne[T any](t identityTx, read func(scan func(...any) error) (T, error), query string, args ...any) (one T, err error) {
	found, err := find(t, read, query, args...)
	if err != nil {
		return one, err
	}
	if len(found) == 0 {
		return one, identity.ErrNotFound
	}
	return found[0], nil
}

func (t identityTx) Fleet() (string, error) {
	return findOne(t, func(scan func(...any) error) (id string, err error) { return id, scan(&id) }, `SELECT id FROM fleet`)
}

func (t identityTx) PutFleet(id string) error {
	return t.db.exec(`INSERT INTO fleet (one, id) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET id = excluded.id`, id)
}

const selectToken = `SELECT id, secret_hash, uses, used, labels, prefix, created, expires, revoked FROM token `

func readToken(scan func(...any) error) (v identity.Token, err error) {
	err = scan(&v.ID, (*hash)(&v.SecretHash), &v.Uses, &v.Used, (*labels)(&v.Labels), &v.Prefix,
		(*micros)(&v.Created), (*micros)(&v.Expires), (*micros)(&v.Revoked))
	return v, err
}

func (t identityTx) Token(id string) (identity.Token, error) {
	return findOne(t, readToken, selectToken+`WHERE id = $1`, id)
}

func (t identityTx) Tokens() ([]identity.Token, error) {
	return find(t, readToken, selectToken+`ORDER BY created, id`)
}

func (t identityTx) PutToken(v identity.Token) error {
	return t.db.exec(`INSERT INTO token (id, secret_hash, uses, used, labels, prefix, created, expires, revoked)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (id) DO UPDATE SET secret_hash = excluded.secret_hash, uses = excluded.uses, used = excluded.used, labels = excluded.labels,
			prefix = excluded.prefix, created = excluded.created, expires = excluded.expires, revoked = excluded.revoked`,
		v.ID, v.SecretHash[:], v.Uses, v.Used, labels(v.Labels), v.Prefix, micros(v.Created), micros(v.Expires), micros(v.Revoked))
}

const selectMember = `SELECT kind, name, created, serial, banned, ban_reason, identity_key, token, labels, recoveries, recoveries_today, recovery_day FROM member `

func readMember(scan func(...any) error) (v identity.Member, err error) {
	err = scan(&v.Kind, &v.Name, (*micros)(&v.Created), &v.Serial, (*micros)(&v.Banned), &v.BanReason, &v.IdentityKey, &v.Token, (*labels)(&v.Labels),
		&v.Recoveries, &v.RecoveriesToday, (*micros)(&v.RecoveryDay))
	return v, err
}

func (t identityTx) Member(kind identity.Kind, name string) (identity.Member, error) {
	return findOne(t, readMember, selectMember+`WHERE kind = $1 AND name = $2`, int64(kind), name)
}

func (t identityTx) MemberByIdentity(key []byte) (identity.Member, error) {
	if len(key) == 0 { // operators have none
		return identity.Member{}, identity.ErrNotFound
	}
	return findOne(t, readMember, selectMember+`WHERE identity_key = $1`, key)
}

func (t identityTx) Members(kind identity.Kind) ([]identity.Member, error) {
	return find(t, readMember, selectMember+`WHERE kind = $1 ORDER BY name`, int64(kind))
}

func (t identityTx) PutMember(v identity.Member) error {
	var key any
	if len(v.IdentityKey) > 0 {
		key = v.IdentityKey
	}
	return t.db.exec(`INSERT INTO member (kind, name, created, serial, banned, ban_reason, identity_key, token, labels, recoveries, recoveries_today, recovery_day)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (kind, name) DO UPDATE SET created = excluded.created, serial = excluded.serial, banned = excluded.banned, ban_reason = excluded.ban_reason,
			identity_key = excluded.identity_key, token = excluded.token, labels = excluded.labels, recoveries = excluded.recoveries,
			recoveries_today = excluded.recoveries_today, recovery_day = excluded.recovery_day`,
		int64(v.Kind), v.Name, micros(v.Created), v.Serial, micros(v.Banned), v.BanReason, key, v.Token, labels(v.Labels),
		v.Recoveries, v.RecoveriesToday, micros(v.RecoveryDay))
}

const selectCertificate = `SELECT serial, kind, name, key_hash, state, issued, expires, superseded, der FROM certificate `

func readCertificate(scan func(...any) error) (v identity.Certificate, err error) {
	err = scan(&v.Serial, &v.Kind, &v.Name, (*hash)(&v.KeyHash), &v.State, (*micros)(&v.Issued), (*micros)(&v.Expires), (*micros)(&v.Superseded), &v.DER)
	return v, err
}

func (t identityTx) Certificate(serial string) (identity.Certificate, error) {
	return findOne(t, readCertificate, selectCertificate+`WHERE serial = $1`, serial)
}

func (t identityTx) CertificateByKey(h identity.Hash) (identity.Certificate, error) {
	return findOne(t, readCertificate, selectCertificate+`WHERE key_hash = $1`, h[:])
}

func (t identityTx) PutCertificate(v identity.Certificate) error {
	return t.db.exec(`INSERT INTO certificate (serial, kind, name, key_hash, state, issued, expires, superseded, der)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (serial) DO UPDATE SET kind = excluded.kind, name = excluded.name, key_hash = excluded.key_hash, state = excluded.state,
			issued = excluded.issued, expires = excluded.expires, superseded = excluded.superseded, der = excluded.der`,
		v.Serial, int64(v.Kind), v.Name, v.KeyHash[:], int64(v.State), micros(v.Issued), micros(v.Expires), micros(v.Superseded), notNil(v.DER))
}
