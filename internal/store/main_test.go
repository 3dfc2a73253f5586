package store

import (
	"os"
	"testing"

	"tfofleet/internal/store/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
