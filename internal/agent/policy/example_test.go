package policy_test

import (
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"tfofleet/internal/agent/policy"
)

// What happens between a lease and a SYN.
func Example() {
	guard, err := policy.Open("", hclog.NewNullLogger()) // "" is the default policy
	if err != nil {
		log.Fatal(err)
	}
	defer guard.Close()
	guard.SetLimits(policy.Limits{Rate: 20, OnlyPorts: []policy.PortRange{{First: 443, Last: 443}}})
	fmt.Println("rate", guard.Policy().RateFor(1000))

	for _, target := range []string{"8.8.8.8:443", "8.8.8.8:80", "[64:ff9b::7f00:1]:443"} {
		t := netip.MustParseAddrPort(target)
		now := time.Now()
		if reason, ok := guard.Check(t.Addr(), t.Port(), now); !ok {
			fmt.Println(target, reason.Condition())
			continue
		}
		if err := guard.Contacted(policy.Contact{Time: now, Addr: t.Addr(), Port: t.Port(), Survey: "weekly"}); err != nil {
			fmt.Println(target, policy.ContactLog.Condition())
			continue
		}
		fmt.Println(target, "goes out")
	}
	// Output:
	// rate 20
	// 8.8.8.8:443 goes out
	// 8.8.8.8:80 tfo.vantage.refused_port
	// [64:ff9b::7f00:1]:443 tfo.vantage.refused_special_purpose
}
