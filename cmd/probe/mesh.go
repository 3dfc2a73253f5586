package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/policy"
	"tfofleet/internal/mesh"
	"tfofleet/internal/tfo"
)

// newWorker makes what a probe does in a mesh, within its policy.
func newWorker(data string, guard *policy.Guard, ns tfo.NetNS, log hclog.Logger) (*mesh.Worker, error) {
	key, err := listenKey(filepath.Join(data, "listen.key"))
	if err != nil {
		return nil, err
	}
	return mesh.NewWorker(mesh.Config{
		NetNS: ns, Keys: key, Permit: agent.Permit(guard),
		MayListen: func(port uint16, d time.Duration) ([]netip.Prefix, error) {
			answer, why, ok := guard.CheckListen(port, d, time.Now())
			if !ok {
				return nil, fmt.Errorf("the probe's policy does not let it listen on port %d for %v: %s", port, d.Round(time.Second), strings.ReplaceAll(string(why), "_", " "))
			}
			return answer, nil
		},
		Contacted: func(at netip.AddrPort) error {
			return guard.Contacted(policy.Contact{Time: time.Now(), Addr: at.Addr(), Port: at.Port(), Survey: "mesh"})
		},
		RateFor: func(asked float64) float64 { return guard.Policy().RateFor(asked) },
		Logger:  log,
	}), nil
}

// listenKey is the key of the probe's listeners, made at the first start: with
// it cookies outlive the process.
func listenKey(path string) ([]tfo.Key, error) {
	text, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		var key tfo.Key
		_, _ = rand.Read(key[:]) // never fails
		text = []byte(hex.EncodeToString(key[:]))
		err = os.WriteFile(path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return nil, err
	}
	keys, err := tfo.ParseKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}
