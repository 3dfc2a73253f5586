package fleettest_test

import (
	"os"
	"testing"

	"tfofleet/internal/fleettest"
)

func TestMain(m *testing.M) { os.Exit(fleettest.Main(m)) }
