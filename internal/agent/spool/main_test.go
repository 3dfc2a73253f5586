package spool

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The tests that need another process run this program again with a role.
func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv("SPOOL_TEST_ROLE")]; ok {
		os.Exit(role())
	}
	goleak.VerifyTestMain(m)
}

var roles = map[string]func() int{}
