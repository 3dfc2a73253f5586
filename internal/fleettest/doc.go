// Package fleettest runs fleets for tests: controllers and probes as processes of
// the shipped programs, each on a host of its own, a network namespace behind a
// link that can be cut, in either direction, and slowed down. It is for tests
// only: nothing shipped imports it.
//
//	f := fleettest.New(t, 1000)             // a network, and targets in a lab
//	c := f.AddController()                  // controller serve
//	p := f.AddProbe(100, f.Controllers)     // probe run --join TOKEN
//	s := f.Survey(c, 1000)                  // controller survey --detach
//	p.Cut(t, fleettest.BothWays)
//	c.Kill()                                // SIGKILL
//	s.Done(fleettest.Patience)
//	s.Check(place, 1)                       // nothing lost, nothing twice
//
// # What happens if
//
// Each of these is tested, as far as it can be by the part that it is about, and
// by a fleet where only that can get it wrong:
//
//   - a lease is lost in flight: offered again after 30 s or at the next Hello
//     (internal/lease.TestIfLeaseLostInFlight, internal/controller.TestLeaseLostInFlight,
//     internal/controller.TestBrokenStreams)
//   - its accept is lost: the next Hello or heartbeat lists it as held
//     (internal/lease.TestIfLeaseAcceptedLost, internal/controller.TestLeaseLostInFlight)
//   - a probe is killed between a start and the result: interrupted, no silent retry
//     (internal/lease.TestIfProbeKilledBetweenStartedAndResult, internal/agent.TestCrashBetweenStartAndResult,
//     internal/fleettest.TestKilled)
//   - a probe is killed between a durable result and its sending: sent after the restart, same key
//     (internal/agent/spool.TestKill, internal/fleettest.TestKilled)
//   - the ack of a result is lost: sent again, and counted once
//     (internal/controller.TestBrokenStreams, internal/fleettest.TestShortPartition)
//   - a controller is killed before or after its commit: nothing lost, nothing twice
//     (internal/controller.TestKilled, internal/fleettest.TestKilled, internal/fleettest.TestTwoControllers,
//     internal/fleettest.TestTwoControllersAndABucket)
//   - two probes have one identity: the second is refused with both host names
//     (internal/controller.TestClonedProbe, internal/fleettest.TestClonedProbe)
//   - a probe is offline for 60 days: it recovers, its results come late
//     (internal/lease.TestIfProbeOfflineForDays, cmd/probe.TestMembership, internal/controller.TestLate,
//     internal/controller.TestLateKilled, internal/fleettest.TestLongPartition, internal/fleettest.TestLateResults)
//   - the clock of a probe jumps: durations unaffected, the offset recorded
//     (internal/agent.TestClock, internal/agent.TestClockJump, internal/fleettest.TestClockJump,
//     internal/fleettest.TestOtherMonotonicClock)
//   - a NAT address changes in the middle of a survey: the probe comes back under the other one,
//     and every record has the one it came from (internal/fleettest.TestAddressChanges)
//   - the controller's disk is full: no ack, no credit, nothing lost
//     (internal/controller.TestDiskFull, internal/store.TestDiskFull, internal/store.TestPostgresDiskFull,
//     internal/fleettest.TestControllerDiskFull)
//   - a probe's disk is full: no credit, a clear reason, nothing lost
//     (internal/agent.TestNoRoom, internal/agent/spool.TestDiskFull, internal/fleettest.TestProbeDiskFull)
//   - every probe vanishes at once: no lease expires for one TTL
//     (internal/lease.TestIfEveryProbeVanishesAtOnce, internal/controller.TestEveryProbeVanishes,
//     internal/fleettest.TestAllVanish)
//   - a probe is cut off for longer than its leases last: it starts nothing new when their time is
//     over, and no target is contacted by two
//     (internal/lease.TestWorldEnds, internal/agent.TestFence, internal/agent.TestFenceAfterACrash,
//     internal/fleettest.TestLongPartition)
//   - probe and controller are of different versions: negotiated, or refused with a typed reason
//     (internal/controller.TestVersionSkew, internal/agent.TestSkew, internal/fleettest.TestVersionSkew)
//
// What a single package can find out with a fake at its border belongs there;
// here belongs what only whole programs can get wrong.
package fleettest
