package controller_test

import (
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSurvey is a survey of b.N targets from the list to the dataset, with
// an engine that takes no time: what is left is the cost of everything else. Run
// it with -benchtime 50000x.
func BenchmarkSurvey(b *testing.B) {
	scripted := make([]measure.Measurement, 512)
	for i := range scripted {
		scripted[i] = agenttest.Healthy(measure.Target{Item: uint64(i), Addr: address(i), Port: 443})
	}
	var next atomic.Uint64
	r := open(b, b.TempDir())
	sp := spec()
	sp.Concurrency = 512
	id := r.survey(b, b.N, sp)
	runtime.GC()
	b.ResetTimer()
	used := cpu()
	r.start(b, "local", &agenttest.Runner{Concurrency: 2, Script: func(measure.Target) measure.Measurement {
		return scripted[next.Add(1)%uint64(len(scripted))]
	}})
	r.watch(b, id, ended)
	b.StopTimer()
	b.ReportMetric(float64((cpu()-used).Microseconds())/float64(b.N), "cpu-µs/target")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "targets/s")
	complete(b, r.dir, b.N)
}

// BenchmarkAddTargets uploads a list of b.N targets. Run it with -benchtime
// 10000000x: the memory must not grow with it.
func BenchmarkAddTargets(b *testing.B) {
	r := open(b, b.TempDir())
	stream, err := r.ctl.AddTargets(ctx)
	if err != nil {
		b.Fatal(err)
	}
	var peak uint64
	sample := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.Sys-m.HeapReleased)
	}
	b.ResetTimer()
	for i := 0; i < b.N; {
		req := &pb.AddTargetsRequest{Seed: 7}
		for ; i < b.N && len(req.Targets) < 1000; i++ {
			req.Targets = append(req.Targets, measure.TargetToWire(measure.Target{Addr: address(i), Port: 443}))
		}
		if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		if i%1_000_000 == 0 {
			sample()
		}
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		b.Fatal(err)
	}
	sample()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "targets/s")
	b.ReportMetric(float64(peak>>20), "peak-MB")
	if resp.GetTargets() != uint64(b.N) {
		b.Errorf("%d targets, want %d", resp.GetTargets(), b.N)
	}
}
