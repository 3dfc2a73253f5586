package identity_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

// leaks says in which form the text has the secret.
func leaks(text string, secret []byte) string {
	list := func(format string) string {
		var words []string
		for _, b := range secret[:8] {
			words = append(words, fmt.Sprintf(format, b))
		}
		return strings.Join(words, " ")
	}
	lower := strings.ToLower(text)
	for form, s := range map[string]string{
		"raw": string(secret), "hexadecimal": hex.EncodeToString(secret), "a list": list("%d"), "a Go literal": strings.ReplaceAll(list("0x%x"), " ", ", "),
		"base64": base64.StdEncoding.EncodeToString(secret)[:16], "URL base64": base64.RawURLEncoding.EncodeToString(secret)[:16],
		"base32": strings.ToLower(base32.StdEncoding.EncodeToString(secret)[:16]), "JSON list": strings.ReplaceAll(list("%d"), " ", ","),
	} {
		if strings.Contains(text, s) || strings.Contains(lower, s) {
			return form
		}
	}
	return ""
}

// secrets is the secrets that a text must not have, by name.
func (c *controller) secrets(tok identity.JoinToken, p *probe) map[string][]byte {
	c.t.Helper()
	config, err := p.TLS()
	ok(c.t, err)
	cert, err := config.GetClientCertificate(nil)
	ok(c.t, err)
	server, err := c.ServerTLS().GetCertificate(nil)
	ok(c.t, err)
	pems := func(path string) []byte { // the key's own bytes, as the file has them
		data, err := os.ReadFile(path)
		ok(c.t, err)
		_, after, _ := bytes.Cut(data, []byte("BEGIN PRIVATE KEY-----"))
		after = bytes.TrimLeft(after, "\\n\n")
		return after[:40]
	}
	raw := func(k any) []byte {
		b, err := k.(*ecdsa.PrivateKey).Bytes()
		ok(c.t, err)
		return b
	}
	return map[string][]byte{
		"the token's secret": tok.Secret.Reveal(), "the probe's key": raw(cert.PrivateKey), "the controller's key": raw(server.PrivateKey),
		"the CA's file": pems(c.caPath()), "the identity key's file": pems(p.identityPath()), "the credential's file": pems(p.credentialPath()),
	}
}

// TestSecretsDoNotPrint: every type that holds a secret, with every verb, as
// JSON, and through both loggers.
func TestSecretsDoNotPrint(t *testing.T) {
	c := newController(t)
	tok := c.newToken()
	p := c.newProbe()
	ok(t, p.Join(ctx, tok))
	cred := c.operator("anna")
	probeCred, err := identity.LoadCredential(p.credentialPath())
	ok(t, err)
	r, err := identity.NewRequest()
	ok(t, err)
	challenge, err := c.Challenge(nil)
	ok(t, err)
	secrets := c.secrets(tok, p)

	type wrapped struct {
		Public  any
		private any
	}
	type direct struct {
		token  identity.JoinToken
		secret identity.Secret
	}
	things := []any{
		tok, &tok, tok.Secret, &tok.Secret, []identity.JoinToken{tok}, map[string]identity.Secret{"a": tok.Secret}, direct{tok, tok.Secret}, &direct{tok, tok.Secret},
		c.ca, r, *r, *cred, cred, probeCred, p.Probe, c.Authority, challenge, c.Guard(c.table), identity.ProbeConfig{}, fmt.Errorf("with %v", tok),
	}
	tokens, err := c.Tokens(ctx)
	ok(t, err)
	things = append(things, tokens)
	for _, thing := range things {
		for _, value := range []any{thing, wrapped{thing, thing}, &wrapped{thing, thing}, []any{thing}, map[string]any{"x": thing}} {
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%t"} {
				fmt.Fprintf(&out, verb+"\n", value)
			}
			if j, err := json.Marshal(value); err == nil {
				out.Write(j)
			}
			hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &out}).Info("m", "k", value)
			hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &out, JSONFormat: true}).Info("m", "k", value)
			slog.New(slog.NewTextHandler(&out, nil)).Info("m", "k", value)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "k", value)
			for name, secret := range secrets {
				if form := leaks(out.String(), secret); form != "" {
					t.Errorf("%T shows %s as %s", value, name, form)
				}
			}
		}
	}
	if text, err := tok.Encode(); err != nil || contains(fmt.Sprint(tok), text) {
		t.Error("the token prints as what it is")
	}
	for _, verb := range []string{"%v", "%s", "%+v", "%#v"} {
		if got := fmt.Sprintf(verb, tok.Secret); got != "[redacted]" {
			t.Errorf("%s prints a secret as %s", verb, got)
		}
	}
}

// TestLeaksIsNotBlind: the search above finds what it looks for.
func TestLeaksIsNotBlind(t *testing.T) {
	secret := []byte("0123456789abcdef")
	for _, format := range []string{"%s", "%v", "%x", "%X", "%#v"} {
		if leaks("before "+fmt.Sprintf(format, secret)+" after", secret) == "" {
			t.Errorf("not found as %s", format)
		}
	}
	j, err := json.Marshal(secret)
	ok(t, err)
	if leaks(string(j), secret) == "" {
		t.Error("not found as JSON")
	}
}

// TestSecretsAreNotLogged: a whole life at the lowest level, refusals and
// failures included.
func TestSecretsAreNotLogged(t *testing.T) {
	c := newController(t)
	tok := c.newToken()
	logs := &logs{}
	dir := t.TempDir()
	inner, err := identity.OpenProbe(identity.ProbeConfig{
		Dir: dir, Now: c.clock.Now, Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: logs}),
	})
	ok(t, err)
	p := &probe{inner, t, dir, c.clock.Now}
	var sent *pb.EnrollRequest
	c.store.Fail = func() error { return errors.New("full") }
	errs := []error{p.Join(ctx, tok)}
	c.store.Fail = nil
	ok(t, p.Join(ctx, tok, grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		sent = req.(*pb.EnrollRequest)
		return invoke(ctx, method, req, reply, conn, opts...)
	})))
	if !bytes.Equal(sent.Secret, tok.Secret.Reveal()) {
		t.Fatal("another secret was sent")
	}
	conn := p.dial(c.address)
	ok(t, p.renewOver(conn))
	ok(t, p.Recover(ctx))
	errs = append(errs, c.newProbe().Join(ctx, tok))
	ok(t, c.Ban(ctx, identity.KindProbe, p.Subject().Name, "test"))
	errs = append(errs, p.Recover(ctx))
	all := c.logs.String() + logs.String() + fmt.Sprint(errs)
	for name, secret := range c.secrets(tok, p) {
		if form := leaks(all, secret); form != "" {
			t.Errorf("%s is logged as %s", name, form)
		}
	}
	for _, line := range []string{"join token created", "probe enrolled", "probe recovered", "enrolment failed", "enrolment refused", "banned", "certificate received"} {
		if !contains(all, line) {
			t.Errorf("nothing is logged of: %s", line)
		}
	}
}
