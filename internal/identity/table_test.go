package identity_test

import (
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestMethods: every method of the services has a rule, and the other way round.
func TestMethods(t *testing.T) {
	c := newController(t)
	s := grpc.NewServer()
	c.register(s)
	identitytest.CheckMethods(t, identity.Methods(), s)
}

// TestCompare: the check above finds what is wrong.
func TestCompare(t *testing.T) {
	table := identity.Methods()
	delete(table, pb.ControlService_AddTargets_FullMethodName)
	table["/tfofleet.v1.ProbeService/Old"] = identity.Rule{}
	c := newController(t)
	s := grpc.NewServer()
	c.register(s)
	r := &recorder{TB: t}
	identitytest.CheckMethods(r, table, s)
	if r.errors != 2 {
		t.Errorf("CheckMethods found %d of 2", r.errors)
	}
	noRule, noMethod := table.Compare(s.GetServiceInfo())
	if want := []string{pb.ControlService_AddTargets_FullMethodName}; !slices.Equal(noRule, want) {
		t.Errorf("methods without a rule: %v, want %v", noRule, want)
	}
	if want := []string{"/tfofleet.v1.ProbeService/Old"}; !slices.Equal(noMethod, want) {
		t.Errorf("rules without a method: %v, want %v", noMethod, want)
	}
}

// recorder counts the errors of a check.
type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Errorf(string, ...any) { r.errors++ }

// TestRules: what the table must not come to say by accident.
func TestRules(t *testing.T) {
	for method, rule := range identity.Methods() {
		if rule.Limit.PerSecond <= 0 || rule.Limit.Burst <= 0 {
			t.Errorf("%s is for nobody: %+v", method, rule.Limit)
		}
		enrollment := method == pb.EnrollmentService_Enroll_FullMethodName || method == pb.EnrollmentService_Recover_FullMethodName
		if (rule.Class == identity.Anyone) != enrollment {
			t.Errorf("%s is for %v", method, rule.Class)
		}
		if rule.Class == identity.Anyone && rule.Timeout <= 0 {
			t.Errorf("%s: a stranger may take for ever", method)
		}
	}
	if got := identity.Methods()[grpc_health_v1.Health_Check_FullMethodName].Class; got != identity.Operators {
		t.Errorf("health is for %v", got)
	}
}
