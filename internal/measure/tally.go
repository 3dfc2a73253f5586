package measure

import "tfofleet/internal/tfo"

// tally counts what the attempts of a measurement showed.
type tally struct {
	plan Plan
	base baseline
	last *tfo.Evidence
	of   [local + 1]int // Fast Open attempts of the ladder by finding
	tfo  int            // Fast Open attempts of the ladder
	side trials         // the further questions of Thorough

	plain       int // plain attempts
	plainOK     int // of them, with a handshake
	plainLossy  int // of them, with a handshake that lost a segment
	plainFailed int // without a handshake
	plainMute   int // of plainOK, not answered as others of them were
	unsent      int // of them, because no SYN left this machine
	plainLocal  int // of them, because this machine did not send one, seen or said
	failRun     int // plain failures since the last plain success or the start

	lostKind  [2]int // requests lost, by option kind: 34, 254
	cleanKind [2]int // requests answered cleanly, by option kind

	// Fast Open attempts of the ladder that were answered as plain ones are, and
	// that broke, by what their SYN carried.
	through [shapes]int
	broke   [shapes][local + 1]int

	lastFinding finding // of the last attempt; 0 when that was plain
	holdsCookie bool    // the cache holds a cookie now, as far as could be read
	inherited   bool    // see inherited
}

func tallyOf(plan Plan, attempts []tfo.Evidence) tally {
	t := tally{plan: plan, base: baselineOf(attempts), inherited: inherited(attempts)}
	for i := range attempts {
		ev := &attempts[i]
		t.last = ev
		if ev.Kind == tfo.KindPlain {
			t.countPlain(ev)
			t.lastFinding = 0
			continue
		}
		t.lastFinding = t.base.find(ev)
		if isTrial(ev.Kind) && plan != Cookieless {
			t.side.count(ev, t.lastFinding)
			continue
		}
		t.tfo++
		t.of[t.lastFinding]++
		switch s := shapeOf(ev); {
		case t.lastFinding.suspect():
			t.broke[s][t.lastFinding]++
		case t.lastFinding <= replaced || t.lastFinding == empty:
			t.through[s]++
		}
		switch t.lastFinding {
		case optionLost:
			t.lostKind[kindIndex(ev)]++
		case noCookie, granted:
			t.cleanKind[kindIndex(ev)]++
		}
		t.holdsCookie = ev.CookieAfter.State == tfo.CookiePresent || ev.CookieAfter.State == tfo.CookieNotRead && ev.SynBytes > 0
	}
	return t
}

// shapes is how many kinds of Fast Open SYN there are, for what drops or resets
// one may pass another: a request with either kind of option, and data.
const shapes = 3

func shapeOf(ev *tfo.Evidence) int {
	if hadCookie(ev) {
		return 2
	}
	return kindIndex(ev)
}

func kindIndex(ev *tfo.Evidence) int {
	if ev.OptionKind == tfo.OptionKindExp {
		return 1
	}
	return 0
}

func (t *tally) countPlain(ev *tfo.Evidence) {
	t.plain++
	if unsent(ev) {
		t.plainFailed++
		t.plainLocal++
		t.unsent++
		return
	}
	if ev.End == tfo.EndLocal || ev.End == tfo.EndInterrupted {
		t.plainFailed++
		t.plainLocal++
		return
	}
	if !ev.End.Established() {
		t.plainFailed++
		t.failRun++
		return
	}
	t.plainOK++
	t.failRun = 0
	if t.base.answered && !ev.End.Answered() || t.base.responded && ev.End != tfo.EndResponse {
		t.plainMute++
	}
	if t.base.lossy(ev) {
		t.plainLossy++
	}
}

// needs says how many findings of a kind, without one that contradicts them,
// settle a fault. Losses need the most, for loss explains them: at 4 % loss per
// handshake, six in a row with seven clean plain handshakes around them happen
// by chance in three of a thousand million measurements.
func (f finding) needs() int {
	switch f {
	case optionLost, dataLost:
		return 6
	}
	return 3
}

// blockRun is how many plain failures in a row, after Fast Open, prove a block:
// of targets that fail one time in five, three in a row would accuse one in
// seventy.
const blockRun = 5

// maxTries bounds the Fast Open attempts of a measurement whose tries disagree.
const maxTries = 12

// good counts the attempts in which Fast Open did its whole work.
func (t *tally) good() int { return t.of[acked] }

// bad counts the attempts with a cookie, or with a failure, that Fast Open did
// not get through whole.
func (t *tally) bad() int {
	return t.of[partial] + t.of[notAcked] + t.of[replaced] + t.of[dataLost] + t.of[refused] + t.of[noAnswer] + t.of[silent] + t.of[cutOff]
}

// fault names the fault the attempts prove so far; 0 when they prove none.
func (t *tally) fault() Verdict {
	enough := func(f finding) bool { return t.of[f] >= f.needs() }
	switch {
	case t.failRun >= blockRun && t.plainOK > 0 && t.tfo > 0:
		return ClientBlocked
	case t.of[replaced] >= 3 || t.of[replaced] >= 2 && t.good() > 0 && t.tfo >= 5:
		// No loss makes a target refuse a cookie and issue another. One
		// replacement is a key rotation; several are a farm without a shared
		// key, and it stays one when a try happens to meet the right server.
		return CookieUnstable
	case t.good() > 0:
		return 0
	case enough(partial):
		return DataTruncated
	case t.breaks(silent):
		return BlackholedAfterHandshake
	case t.breaks(refused) || t.breaks(cutOff):
		return Reset
	case t.breaks(noAnswer):
		return FlowBlackholed
	case enough(dataLost) && t.through[shapes-1] == 0 && t.controlsClean(t.of[dataLost]):
		return DataDropped
	case t.optionDropped(0) || t.optionDropped(1):
		return OptionDropped
	case enough(notAcked) && t.plan != Cookieless && !t.inherited:
		return CookieOnly
	}
	return 0
}

// inherited reports whether the attempts had no cookie but one that was in the
// cache before them and could not be deleted, and that the target neither took
// nor replaced. The cache has no port: it may well be the cookie of another
// port, and then that it is ignored is as it should be.
func inherited(attempts []tfo.Evidence) bool {
	var first *tfo.Evidence
	for i := range attempts {
		ev := &attempts[i]
		if ev.Kind == tfo.KindPlain || isTrial(ev.Kind) {
			continue
		}
		if first == nil {
			first = ev
		}
		took := ev.SynBytes > 0 && ev.SynAcked > 0
		if took || ev.CookieAfter.State == tfo.CookiePresent && !ev.CookieAfter.Equal(first.CookieBefore) {
			return false
		}
	}
	return first != nil && first.CookieCleared == tfo.No && first.CookieBefore.State == tfo.CookiePresent
}

// optionDropped reports whether every request with one option kind was lost.
// The kinds are apart: a box may drop the one and pass the other.
func (t *tally) optionDropped(kind int) bool {
	n := t.lostKind[kind]
	return n >= optionLost.needs() && t.cleanKind[kind] == 0 && t.of[granted] == 0 && t.controlsClean(n)
}

// breaks reports whether Fast Open SYNs break connections in this way where
// plain ones do not. One of the same shape that got through says that they do
// not: then it is a flow, or the hour.
func (t *tally) breaks(f finding) bool {
	n := 0
	for s, through := range t.through {
		if through == 0 {
			n += t.broke[s][f]
		}
	}
	plain := t.plain - t.plainLocal
	return n >= f.needs() && plain >= n && controlsServed(t.plainBad(), plain, n)
}

// plainBad counts the plain attempts that failed or were not answered as others
// were, and not by this machine's doing.
func (t *tally) plainBad() int { return t.plainFailed - t.plainLocal + t.plainMute }

// controlsServed reports whether the plain attempts made between n that broke,
// of which bad broke too, rule out that the target simply fails at times.
func controlsServed(bad, plain, n int) bool { return bad == 0 || n >= 10 && bad*4 <= plain }

// controlsClean reports whether the plain handshakes made between n lost Fast
// Open SYNs rule out that the path simply loses packets.
func (t *tally) controlsClean(n int) bool {
	if t.plainOK < n {
		return false
	}
	return t.plainLossy == 0 || n >= 10 && t.plainLossy*4 <= t.plainOK
}
