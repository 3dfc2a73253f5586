package spool

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func init() { roles["probe"] = smallProbe }

const killTargets = 20 // per lease

// smallProbe is a probe without a network. It says on stdout what it does, at
// the moment when it may be done:
//
//	accepted LEASE             the lease may be accepted
//	syn LEASE ITEM             the SYN may be sent
//	send ID SEQUENCE LEASE ITEMS DATA
//
// and reads "ID SEQUENCE" from stdin for what is acknowledged. With SPOOL_DRAIN
// it gives back what it has, and ends when all is acknowledged.
func smallProbe() int {
	s, found, err := Open(Config{Path: os.Getenv("SPOOL_PATH"), Limit: 1 << 20, Logger: hclog.NewNullLogger()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	drain := os.Getenv("SPOOL_DRAIN") != ""
	work := make(chan Held, 1<<16)
	for _, h := range found.Leases {
		for _, i := range h.Interrupted {
			fail(s.Append(Record{Kind: KindResult, Lease: h.Lease, Items: []uint32{i}, Data: []byte("interrupted")}))
		}
		if drain && len(h.Fresh) > 0 {
			fail(s.Append(Record{Kind: KindResult, Lease: h.Lease, Items: h.Fresh, Data: []byte("returned")}))
		} else if len(h.Fresh) > 0 {
			work <- h
		}
	}
	next := func() func() Lease {
		chunk, _ := strconv.Atoi(os.Getenv("SPOOL_CHUNK"))
		var mu sync.Mutex
		return func() Lease {
			mu.Lock()
			defer mu.Unlock()
			chunk++
			return Lease{"survey", uint32(chunk), 1}
		}
	}()
	for range 3 {
		if drain {
			break
		}
		go func() {
			for {
				var h Held
				select {
				case h = <-work:
				default:
					h.Lease = next()
					for i := range uint32(killTargets) {
						h.Fresh = append(h.Fresh, i)
					}
					fail(s.Accept(h.Lease, h.Fresh, []byte("offer")))
					fmt.Printf("accepted %v\n", h.Lease)
				}
				for items := range slices.Chunk(h.Fresh, 1+rand.IntN(8)) {
					fail(s.Start(h.Lease, items...))
					for _, i := range items {
						fmt.Printf("syn %v %d\n", h.Lease, i)
					}
					for _, i := range items {
						fail(s.Append(Record{Kind: KindResult, Lease: h.Lease, Items: []uint32{i}, Data: []byte("measured")}))
					}
				}
			}
		}()
	}
	go func() {
		acks := bufio.NewScanner(os.Stdin)
		for acks.Scan() {
			var k Key
			id, n, _ := strings.Cut(acks.Text(), " ")
			fail(k.Spool.UnmarshalText([]byte(id)))
			k.Sequence, err = strconv.ParseUint(n, 10, 64)
			fail(err)
			s.Ack(k)
		}
	}()
	fail(s.Sync())
	last := s.Status().Spooled
	for after := uint64(0); ; {
		rs, err := s.Next(context.Background(), after, 4096)
		fail(err)
		for _, r := range rs {
			data := string(r.Data)
			if r.Kind == KindEvent {
				e, err := ParseEvent(r.Data)
				fail(err)
				data = e.Kind.String()
			}
			fmt.Printf("send %v %d %v %s %s\n", r.Key.Spool, r.Key.Sequence, r.Lease, strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Items), " ", ","), "[]"), data)
			after = r.Key.Sequence
		}
		if drain && after >= last {
			break
		}
	}
	for s.Status().Depth > 0 {
		fail(s.Sync())
	}
	fail(s.Close())
	return 0
}

// TestKill kills a probe at random moments. Whatever the moment: what was
// durable is delivered, in order, under one key; nothing is delivered twice; no
// SYN is sent twice; and every target of an accepted lease has one outcome.
func TestKill(t *testing.T) {
	const rounds = 60
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	file := path(t)

	type target struct {
		lease string
		item  string
	}
	accepted := map[string]bool{}
	syns := map[target]bool{}
	content := map[string]string{}   // by key
	outcome := map[target][]string{} // one for each key
	crashes := 0

	run := func(round, kill int) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "SPOOL_TEST_ROLE=probe", "SPOOL_PATH="+file, fmt.Sprint("SPOOL_CHUNK=", round*1000))
		if kill == 0 {
			cmd.Env = append(cmd.Env, "SPOOL_DRAIN=1")
		}
		var stderr strings.Builder
		cmd.Stderr = &stderr
		in, err := cmd.StdinPipe()
		must(t, err)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		acks := make(chan string, 1<<16)
		acked := make(chan struct{})
		go func() {
			defer close(acked)
			for a := range acks {
				io.WriteString(in, a) // fails when it is dead
			}
		}()
		last := uint64(0)
		lines := bufio.NewScanner(out)
		for n := 1; lines.Scan(); n++ {
			if n == kill {
				must(t, cmd.Process.Kill())
			}
			f := strings.Split(lines.Text(), " ")
			switch f[0] {
			case "accepted":
				accepted[f[1]] = true
			case "syn":
				who := target{f[1], f[2]}
				if syns[who] {
					t.Errorf("round %d: %v is started again", round, who)
				}
				syns[who] = true
			case "send":
				sequence, err := strconv.ParseUint(f[2], 10, 64)
				must(t, err)
				if sequence <= last {
					t.Errorf("round %d: record %d after %d", round, sequence, last)
				}
				last = sequence
				key, what := f[1]+" "+f[2], strings.Join(f[3:], " ")
				if before, ok := content[key]; ok {
					if before != what {
						t.Errorf("round %d: key %s was %q and is %q", round, key, before, what)
					}
				} else {
					content[key] = what
					if f[5] == EventCrashFound.String() {
						crashes++
					}
					for _, i := range strings.Split(f[4], ",") {
						if i != "" {
							outcome[target{f[3], i}] = append(outcome[target{f[3], i}], f[5])
						}
					}
				}
				if kill == 0 || rng.IntN(10) > 0 { // else it is lost on its way
					acks <- key + "\n"
				}
			}
		}
		close(acks)
		<-acked
		in.Close()
		err = cmd.Wait()
		if stderr.Len() > 0 || kill == 0 && err != nil {
			t.Fatalf("round %d: %v %s", round, err, &stderr)
		}
	}
	for round := range rounds {
		run(round, 1+rng.IntN(400))
	}
	run(rounds, 0)

	counts := map[string]int{}
	for name := range accepted {
		for i := range killTargets {
			who := target{name, fmt.Sprint(i)}
			got := outcome[who]
			if len(got) != 1 {
				t.Errorf("%v has the outcomes %v", who, got)
				continue
			}
			counts[got[0]]++
			if syns[who] && got[0] == "returned" {
				t.Errorf("%v was started and is given back", who)
			}
			if !syns[who] && got[0] == "measured" {
				t.Errorf("%v has a result and was never started", who)
			}
		}
	}
	for who, got := range outcome {
		if len(got) != 1 {
			t.Errorf("%v has the outcomes %v", who, got)
		}
	}
	if crashes != rounds {
		t.Errorf("%d crashes were found, there were %d", crashes, rounds)
	}
	t.Logf("%d leases, %v, %d records", len(accepted), counts, len(content))
	if counts["measured"] == 0 || counts["interrupted"] == 0 || counts["returned"] == 0 {
		t.Errorf("the kills came at no interesting moment: %v", counts)
	}
	if st, _, err := Inspect(file); err != nil || st.Depth != 1 || st.Leases != 0 { // the stop is never acknowledged
		t.Errorf("left: %+v %v", st, err)
	}
}
