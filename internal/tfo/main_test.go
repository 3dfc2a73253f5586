package tfo_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/tfo"
)

// selfTestChild makes the test binary the child of a self-test.
const selfTestChild = "TFOFLEET_SELF_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(selfTestChild) != "" {
		t, err := tfo.SelfTestInside()
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(t)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(labtest.Main(m))
}
