package identitytest

import (
	"testing"

	"google.golang.org/grpc"

	"tfofleet/internal/identity"
)

// CheckMethods fails for every method of the server without a rule, and for
// every rule without a method. The server has all its services.
func CheckMethods(t testing.TB, table identity.Table, s *grpc.Server) {
	t.Helper()
	noRule, noMethod := table.Compare(s.GetServiceInfo())
	for _, m := range noRule {
		t.Errorf("%s has no rule: nobody may call it", m)
	}
	for _, m := range noMethod {
		t.Errorf("the table has a rule for %s, which the server does not have", m)
	}
}
