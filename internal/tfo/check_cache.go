package tfo

import (
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// CookieCache is how large the kernel's cookie cache is and how full. One hash
// table holds the entries of all network namespaces; only those of one's own
// can be counted.
type CookieCache struct {
	// Slots of the hash table. The kernel tells nobody: this is what it makes
	// of the boot parameter or of the memory it finds (tcp_net_metrics_init,
	// net/ipv4/tcp_metrics.c).
	Slots     int    `json:"slots_estimate"`
	SlotsFrom string `json:"slots_from"` // "boot parameter" or "memory size"
	Entries   int    `json:"entries"`    // of this namespace; NotKnown when they cannot be listed
	Cookies   int    `json:"cookies"`    // entries that hold one
}

// entriesPerSlot: a slot that holds so many gives up its oldest for a new one
// (TCP_METRICS_RECLAIM_DEPTH 5, net/ipv4/tcp_metrics.c).
const entriesPerSlot = 6

// Most is how many entries there can be at most.
func (c CookieCache) Most() int { return c.Slots * entriesPerSlot }

// Comfortable is how many destinations fit before about one in a hundred loses
// its cookie: with n entries in m slots the load of a slot is Poisson with
// mean n/m, and what exceeds entriesPerSlot is lost.
func (c CookieCache) Comfortable() int {
	mean := 0.0
	for lost(mean+0.01) < 0.01 {
		mean += 0.01
	}
	return int(mean * float64(c.Slots))
}

// lost is the share of entries that a table with this mean load per slot loses.
func lost(mean float64) float64 {
	// E[max(X-6, 0)] / mean = 1 - E[min(X, 6)] / mean
	kept, p := 0.0, math.Exp(-mean)
	rest := 1 - p
	for k := 1; k < entriesPerSlot; k++ {
		p *= mean / float64(k)
		kept += float64(k) * p
		rest -= p
	}
	return 1 - (kept+entriesPerSlot*rest)/mean
}

// readCookieCache must run in the namespace.
func readCookieCache() CookieCache {
	c := CookieCache{Entries: NotKnown, Cookies: NotKnown}
	cmdline, _ := os.ReadFile("/proc/cmdline")
	c.Slots, c.SlotsFrom = cacheSlots(string(cmdline), memoryBytes())
	entries, cookies, err := countEntries()
	if err == nil {
		c.Entries, c.Cookies = entries, cookies
	}
	return c
}

func memoryBytes() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

// cacheSlots does as the kernel does at boot.
func cacheSlots(cmdline string, memory uint64) (slots int, from string) {
	for word := range strings.FieldsSeq(cmdline) {
		v, is := strings.CutPrefix(word, "tcpmhash_entries=")
		if !is {
			continue
		}
		if n, err := strconv.ParseUint(v, 0, 31); err == nil && n > 0 {
			slots = 1
			for slots < int(n) {
				slots *= 2
			}
			from = "boot parameter"
		}
	}
	if slots > 0 {
		return slots, from
	}
	// In pages of 4 kB, which the kernel counts, it is 512 MB.
	if memory >= 128*1024*uint64(os.Getpagesize()) {
		return 16 * 1024, "memory size"
	}
	return 8 * 1024, "memory size"
}

// countEntries lists the cache of the calling thread's network namespace.
func countEntries() (entries, cookies int, err error) {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	family, err := conn.GetFamily(metricsFamily)
	if err != nil {
		return 0, 0, err
	}
	replies, err := conn.Execute(genetlink.Message{Header: genetlink.Header{Command: metricsCmdGet, Version: metricsVersion}},
		family.ID, netlink.Request|netlink.Dump)
	if err != nil {
		return 0, 0, err
	}
	for _, r := range replies {
		e, err := parseEntry(append(make([]byte, 4), r.Data...))
		if err != nil {
			return 0, 0, err
		}
		if e.Cookie.State == CookiePresent {
			cookies++
		}
	}
	return len(replies), cookies, nil
}
