package identity

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound: there is no such record.
var ErrNotFound = errors.New("not found")

// Store is the durable record of who may do what. Implementations must pass
// identitytest.RunStoreTests. All methods may be called from several goroutines
// and, for stores that several controllers share, from several processes.
//
// An error that do returns is returned as it is, nothing of that run is kept.
// Any other error means that nothing was kept, or that this is not known.
type Store interface {
	// View runs do over one consistent state.
	View(ctx context.Context, do func(Reader) error) error
	// Update runs do in one transaction: what it put is durable, all of it, when
	// Update returns nil. Transactions are as if run one after the other,
	// serializable in the word of SQL, also where do relied on a record that was
	// not there. Do may be run several times; the last run counts.
	Update(ctx context.Context, do func(Tx) error) error
}

// Reader reads records. What is not there is ErrNotFound. The caller may change
// what it gets.
type Reader interface {
	// Now is the store's clock, the same for all controllers that share it.
	Now() time.Time
	// Fleet is the fleet that the records are of.
	Fleet() (string, error)
	Token(id string) (Token, error)
	// Tokens is all tokens, oldest first.
	Tokens() ([]Token, error)
	Member(Kind, string) (Member, error)
	// MemberByIdentity finds a probe by Member.IdentityKey.
	MemberByIdentity(key []byte) (Member, error)
	// Members is all members of the kind by name.
	Members(Kind) ([]Member, error)
	Certificate(serial string) (Certificate, error)
	CertificateByKey(Hash) (Certificate, error)
}

// Tx reads, its own writes included, and writes. A put replaces the record with
// the same key: Token.ID, Member.Kind and Name, Certificate.Serial.
type Tx interface {
	Reader
	PutFleet(string) error
	PutToken(Token) error
	PutMember(Member) error
	PutCertificate(Certificate) error
}

// Records. Times are UTC to the microsecond, zero when it did not happen; that
// is what every database can keep.

// Token is the record of a join token.
type Token struct {
	ID         string
	SecretHash Hash
	Uses       int // how many probes it lets in
	Used       int
	Labels     Labels // of the probes it lets in
	Prefix     string // of their names
	Created    time.Time
	Expires    time.Time
	Revoked    time.Time
}

// Member is the record of a probe or an operator.
type Member struct {
	Kind    Kind
	Name    string
	Created time.Time
	// Serial of the certificate in use; empty until the first one was used.
	Serial    string
	Banned    time.Time
	BanReason string

	// Of probes only.

	IdentityKey []byte // Ed25519; no two members have the same
	Token       string // the one that let it in
	Labels      Labels
	// Recoveries is how many there ever were, RecoveriesToday how many since
	// RecoveryDay.
	Recoveries      int
	RecoveriesToday int
	RecoveryDay     time.Time
}

// CertificateState is the state of a certificate. The values are stored.
type CertificateState uint8

const (
	// Pending: it was issued, and nobody knows whether it arrived.
	Pending CertificateState = 1
	// Active: it was used, and is the newest that was.
	Active CertificateState = 2
	// Superseded: a newer one was used.
	Superseded CertificateState = 3
)

// Certificate is the record of a certificate of a probe or an operator.
type Certificate struct {
	Serial     string // hexadecimal
	Kind       Kind
	Name       string
	KeyHash    Hash // no two certificates have the same
	State      CertificateState
	Issued     time.Time
	Expires    time.Time
	Superseded time.Time
	// DER is the certificate while it may have to be sent again: a probe whose
	// reply was lost gets the same one. Empty once it was used.
	DER []byte
}
