package main

import (
	"fmt"
	"os"
	"path/filepath"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/simulate"
)

// simulateMain is the command "simulate SEED DIR" of scripts: a small fleet
// whose second probe drops data, and DIR.asn, which tells whose its targets are.
func simulateMain() int {
	var f simulate.Fleet
	if len(os.Args) != 3 {
		return 2
	}
	if _, err := fmt.Sscan(os.Args[1], &f.Seed); err != nil {
		return 2
	}
	f.ID, f.Targets, f.Probes, f.ChunkSize, f.Attempts = filepath.Base(os.Args[2]), 600, 3, 200, true
	f.BadTargets, f.BadPaths, f.Inconclusive, f.Transient = 10_000, 5_000, 10_000, 5_000
	f.Broken = map[int]simulate.Box{1: simulate.DropsData}
	if err := writeFleet(&f, os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// simulateMeshMain is the command "simulate-mesh DIR" of scripts: a mesh of two
// probes.
func simulateMeshMain() int {
	if len(os.Args) != 2 {
		return 2
	}
	w, err := dataset.Create(os.Args[1], &dataset.Survey{ID: filepath.Base(os.Args[1]), State: dataset.StateDone})
	if err == nil {
		err = w.WriteMesh([]dataset.MeshRow{
			{Mesh: "m", Client: "a", Server: "b", Family: 4, Port: 80, Verdict: measure.JointSupported},
			{Mesh: "m", Client: "b", Server: "a", Family: 4, Port: 80, Verdict: measure.JointOptionStripped, Direction: measure.Forward},
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func writeFleet(f *simulate.Fleet, dir string) error {
	if err := f.Write(dir); err != nil {
		return err
	}
	asns, err := os.Create(dir + ".asn")
	if err != nil {
		return err
	}
	if err := simulate.WriteASNs(asns); err != nil {
		return err
	}
	return asns.Close()
}
