package identity

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pb "tfofleet/proto/tfofleet/v1"
)

// Join makes the probe a member of the token's fleet. It may be called again
// after any error; a refusal is a *Denial, see DenialOf.
func (p *Probe) Join(ctx context.Context, t JoinToken, opts ...grpc.DialOption) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	csr, err := p.ask()
	if err != nil {
		return err
	}
	public, signature, err := p.prove(enrollProof(t.ID, csr))
	if err != nil {
		return err
	}
	req := &pb.EnrollRequest{Token: t.ID, Secret: t.Secret.Reveal(), Csr: csr, IdentityKey: public, IdentitySignature: signature}
	var issued *pb.IssuedCertificate
	err = try(t.Addresses, pinnedTLS(t.Pin, p.cfg.Now), opts, func(c pb.EnrollmentServiceClient) error {
		resp, err := c.Enroll(ctx, req)
		issued = resp.GetIssued()
		return err
	})
	return p.take(issued, err, t.Addresses)
}

// Recover gets a new certificate by the identity key, for a probe whose
// certificate ran out.
func (p *Probe) Recover(ctx context.Context, opts ...grpc.DialOption) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.credential.Load()
	if c == nil {
		return ErrNotEnrolled
	}
	csr, err := p.ask()
	if err != nil {
		return err
	}
	config := dynamicTLS(p.credential.Load, p.cfg.Now)
	config.GetClientCertificate = nil // it is of no use
	var issued *pb.IssuedCertificate
	err = try(c.addresses, config, opts, func(client pb.EnrollmentServiceClient) error {
		issued, err = p.answer(ctx, client, csr, c.subject.Fleet)
		return err
	})
	return p.take(issued, err, c.addresses)
}

// answer is the conversation of a recovery.
func (p *Probe) answer(ctx context.Context, client pb.EnrollmentServiceClient, csr []byte, fleet string) (*pb.IssuedCertificate, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Recover(ctx)
	if err != nil {
		return nil, err
	}
	hello := &pb.RecoverHello{IdentityKey: p.identity.reveal().Public().(ed25519.PublicKey)}
	// An error of Send is io.EOF; Recv knows the reason.
	_ = stream.Send(&pb.RecoverRequest{Message: &pb.RecoverRequest_Hello{Hello: hello}})
	resp, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	challenge := resp.GetChallenge()
	if len(challenge.GetNonce()) != nonceSize || challenge.Fleet != fleet {
		return nil, errors.New("the controller's challenge is not one for this probe")
	}
	_, signature, err := p.prove(recoverProof(fleet, challenge.Nonce, csr))
	if err != nil {
		return nil, err
	}
	proof := &pb.RecoverProof{Csr: csr, IdentitySignature: signature}
	_ = stream.Send(&pb.RecoverRequest{Message: &pb.RecoverRequest_Proof{Proof: proof}})
	if resp, err = stream.Recv(); err != nil {
		return nil, err
	}
	return resp.GetIssued(), nil
}

// prove signs with the identity key.
func (p *Probe) prove(text []byte) (public ed25519.PublicKey, signature []byte, err error) {
	k := p.identity.reveal()
	signature, err = k.Sign(rand.Reader, text, crypto.Hash(0))
	return k.Public().(ed25519.PublicKey), signature, err
}

// try calls the controllers in turn until one answers; a refusal is an answer.
func try(addresses []string, config *tls.Config, opts []grpc.DialOption, call func(pb.EnrollmentServiceClient) error) error {
	var errs []error
	for _, a := range addresses {
		err := dial(a, config, opts, call)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("controller %s: %w", a, err)
		if _, refused := DenialOf(err); refused {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func dial(address string, config *tls.Config, opts []grpc.DialOption, call func(pb.EnrollmentServiceClient) error) error {
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(config))}, opts...)
	conn, err := grpc.NewClient("dns:///"+address, opts...)
	if err != nil {
		return err
	}
	return errors.Join(call(pb.NewEnrollmentServiceClient(conn)), conn.Close())
}
