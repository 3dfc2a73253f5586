package identity

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "tfofleet/proto/tfofleet/v1"
)

// Reason is why a call was refused.
type Reason = pb.DenialReason

// The reasons are explained in enrollment.proto.
const (
	TokenUnknown          = pb.DenialReason_DENIAL_REASON_TOKEN_UNKNOWN
	TokenExpired          = pb.DenialReason_DENIAL_REASON_TOKEN_EXPIRED
	TokenRevoked          = pb.DenialReason_DENIAL_REASON_TOKEN_REVOKED
	TokenExhausted        = pb.DenialReason_DENIAL_REASON_TOKEN_EXHAUSTED
	CSRInvalid            = pb.DenialReason_DENIAL_REASON_CSR_INVALID
	KeyReused             = pb.DenialReason_DENIAL_REASON_KEY_REUSED
	ProofInvalid          = pb.DenialReason_DENIAL_REASON_PROOF_INVALID
	ProbeUnknown          = pb.DenialReason_DENIAL_REASON_PROBE_UNKNOWN
	Banned                = pb.DenialReason_DENIAL_REASON_BANNED
	RecoveryLimit         = pb.DenialReason_DENIAL_REASON_RECOVERY_LIMIT
	CertificateMissing    = pb.DenialReason_DENIAL_REASON_CERTIFICATE_MISSING
	CertificateUntrusted  = pb.DenialReason_DENIAL_REASON_CERTIFICATE_UNTRUSTED
	CertificateExpired    = pb.DenialReason_DENIAL_REASON_CERTIFICATE_EXPIRED
	CertificateWrongFleet = pb.DenialReason_DENIAL_REASON_CERTIFICATE_WRONG_FLEET
	CertificateUnknown    = pb.DenialReason_DENIAL_REASON_CERTIFICATE_UNKNOWN
	CertificateSuperseded = pb.DenialReason_DENIAL_REASON_CERTIFICATE_SUPERSEDED
	NotPermitted          = pb.DenialReason_DENIAL_REASON_NOT_PERMITTED
	RateLimited           = pb.DenialReason_DENIAL_REASON_RATE_LIMITED
)

// Denial is the refusal of a call. As the error of a handler it becomes a
// status with the reason in it; [DenialOf] reads it on the other side. In
// errors.Is two denials are the same when their reasons are.
type Denial struct {
	Reason     Reason
	Detail     string
	RetryAfter time.Duration // 0: asking again will not help
}

func deny(r Reason, detail string) *Denial { return &Denial{Reason: r, Detail: detail} }

// word is the reason as people read it.
func (d *Denial) word() string {
	name := strings.TrimPrefix(d.Reason.String(), "DENIAL_REASON_")
	return strings.ReplaceAll(strings.ToLower(name), "_", " ")
}

func (d *Denial) Error() string {
	if d.Detail == "" {
		return d.word()
	}
	return d.word() + ": " + d.Detail
}

// Is implements errors.Is.
func (d *Denial) Is(target error) bool {
	t, ok := target.(*Denial)
	return ok && t.Reason == d.Reason
}

func (d *Denial) code() codes.Code {
	switch d.Reason {
	case RateLimited, RecoveryLimit:
		return codes.ResourceExhausted
	case CSRInvalid, KeyReused:
		return codes.InvalidArgument
	case Banned, NotPermitted, TokenExhausted:
		return codes.PermissionDenied
	}
	return codes.Unauthenticated
}

// GRPCStatus makes it the status of a call.
func (d *Denial) GRPCStatus() *status.Status {
	s := status.New(d.code(), d.Error())
	detail := &pb.Denial{Reason: d.Reason, Detail: d.Detail}
	if d.RetryAfter > 0 {
		detail.RetryAfter = durationpb.New(d.RetryAfter)
	}
	if with, err := s.WithDetails(detail); err == nil {
		return with
	}
	return s
}

// DenialOf returns the denial in the error of a call, on either side of the
// wire.
func DenialOf(err error) (*Denial, bool) {
	var d *Denial
	if errors.As(err, &d) {
		return d, true
	}
	s, ok := status.FromError(err)
	if !ok {
		return nil, false
	}
	for _, detail := range s.Details() {
		if m, ok := detail.(*pb.Denial); ok {
			return &Denial{m.Reason, m.Detail, m.RetryAfter.AsDuration()}, true
		}
	}
	return nil, false
}
