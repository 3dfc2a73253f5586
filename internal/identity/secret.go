package identity

import "log/slog"

const redacted = "[redacted]"

// Secret is bytes that no printer finds: not fmt with any verb, not JSON, not a
// logger, not one that walks unexported fields. They are held in a closure for
// that reason; a method alone would not be asked for a field of another struct.
type Secret struct{ reveal func() []byte }

// NewSecret keeps b. The caller must not change it.
func NewSecret(b []byte) Secret { return Secret{func() []byte { return b }} }

// Reveal returns the bytes, nil for the zero Secret.
func (s Secret) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
