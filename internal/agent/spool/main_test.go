package spool

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The tests that need another process run this program again with a role.
func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv("SPOOL_TEST_ROLE")]; ok {
		os.Exit(role())
	}
	if err := flag.Set("rapid.checks", "40"); err != nil { // each step is a transaction
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

var roles = map[string]func() int{}
