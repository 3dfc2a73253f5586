package lab_test

import (
	"os"
	"testing"

	"tfofleet/internal/lab/labtest"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }
