package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tfofleet/internal/lab/labtest"
)

// TestMain makes this binary the probe when it is called by that name.
func TestMain(m *testing.M) {
	testscript.Main(inLab{m}, map[string]func(){"probe": main})
}

// inLab runs the tests with the privileges of a lab.
type inLab struct{ m *testing.M }

func (l inLab) Run() int {
	if code := labtest.Main(l.m); code != 0 {
		os.Exit(code) // also the code of the run inside a user namespace
	}
	return 0
}
