package report

import (
	"fmt"
	"strconv"
	"time"
)

// number groups digits: 12,345.
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// percent is the share n of total with one digit, and never calls some none or
// all what is not.
func percent(n, total uint64) string {
	switch {
	case total == 0:
		return "-"
	case n > 0 && n*2000 < total:
		return "<0.1%"
	case n < total && (total-n)*2000 < total:
		return ">99.9%"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(n)/float64(total))
}

// interval is the ends of the 95 % interval of a share.
func interval(p Part) string { return fmt.Sprintf("%.1f-%.1f%%", 100*p.Low, 100*p.High) }

// millis is µs as ms with three digits that count.
func millis(us int64) string {
	ms := float64(us) / 1000
	switch a := max(ms, -ms); {
	case a >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	case a >= 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}

// span is a duration without digits nobody reads.
func span(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func familyName(key string) string {
	switch key {
	case "ipv4":
		return "IPv4"
	case "ipv6":
		return "IPv6"
	}
	return "no address"
}
