package identitytest

import (
	"testing"
	"time"

	"tfofleet/internal/identity"
)

func TestMemory(t *testing.T) {
	RunStoreTests(t, func(testing.TB) Opener {
		s := NewMemory(time.Now)
		return func() identity.Store { return s }
	})
}
