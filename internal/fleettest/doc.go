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
// What a single package can find out with a fake at its border belongs there;
// here belongs what only whole programs can get wrong.
package fleettest
