package policy

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Example is a policy.yaml that says the same as an empty one, with every
// setting explained.
//
//go:embed policy.example.yaml
var Example []byte

// Bounds of what can be written.
const (
	maxFile        = 1 << 20 // bytes; long lists belong into the do-not-probe list
	maxRate        = 1_000_000
	maxConcurrency = 1_000_000
	maxAttempts    = 10_000
	maxWindow      = 24 * time.Hour
	maxListen      = 24 * time.Hour
)

// Load reads a policy and the list that it names.
func Load(path string) (*Policy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(data, path, os.ReadFile)
}

// Parse reads a policy as [Load] does, for a file that is called path.
func Parse(data []byte, path string) (*Policy, error) { return parse(data, path, os.ReadFile) }

func parse(data []byte, path string, read func(string) ([]byte, error)) (*Policy, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	root, err := document(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r := &reader{path: path}
	s := Defaults()
	r.settings(root, &s)
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	var list doNotProbe
	if s.DoNotProbe != "" {
		data, err := read(s.DoNotProbe)
		if err != nil {
			return nil, fmt.Errorf("%s: do_not_probe: %w", path, err)
		}
		if list, err = parseDoNotProbe(data, s.DoNotProbe); err != nil {
			return nil, err
		}
	}
	return compile(s, list), nil
}

// document is the top of the only document; nil when there is nothing in it.
func document(data []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.Join(errors.New("there is more than one document"), err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return doc.Content[0], nil
}

// reader walks the file by itself instead of decoding it into a struct, so that
// every mistake is told with its line, and none is passed over.
type reader struct {
	path string
	errs []error
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d: %s", r.path, n.Line, fmt.Sprintf(format, args...)))
}

type fields map[string]func(*yaml.Node)

// section reads a mapping, whose keys are known.
func (r *reader) section(n *yaml.Node, name string, known fields) {
	n = resolve(n)
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%sa mapping of settings is expected", prefix(name))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		read, ok := known[key.Value]
		switch {
		case !ok || key.Kind != yaml.ScalarNode:
			r.fail(key, "%sunknown key %q; known are %s", prefix(name), shown(key.Value), strings.Join(sortedKeys(known), ", "))
		case seen[key.Value]:
			r.fail(key, "%sthe key %s is there twice", prefix(name), key.Value)
		default:
			read(value)
		}
		seen[key.Value] = true
	}
}

func prefix(section string) string {
	if section == "" {
		return ""
	}
	return section + ": "
}

func sortedKeys(m fields) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// scalar reads one value by a function whose error is for people.
func scalar[T any](r *reader, name string, into *T, parse func(string) (T, error)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || isNull(n) {
			r.fail(n, "%s: a single value is expected", name)
			return
		}
		v, err := parse(n.Value)
		if err != nil {
			r.fail(n, "%s: %v", name, err)
			return
		}
		*into = v
	}
}

// list reads a list of values. An empty one is a mistake where it would mean
// that nothing is allowed: the kill switch says that better.
func list[T any](r *reader, name string, into *[]T, mayBeEmpty bool, parse func(string) (T, error)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.SequenceNode {
			r.fail(n, "%s: a list is expected", name)
			return
		}
		if len(n.Content) == 0 && !mayBeEmpty {
			r.fail(n, "%s: an empty list would allow nothing; remove the key, or use the kill switch", name)
			return
		}
		all := make([]T, 0, len(n.Content))
		for _, item := range n.Content {
			var v T
			scalar(r, name, &v, parse)(resolve(item))
			all = append(all, v)
		}
		*into = all
	}
}

func (r *reader) settings(root *yaml.Node, s *Settings) {
	var deny []PortRange
	path := func(text string) (string, error) {
		if text == "" {
			return "", errors.New("a path is expected")
		}
		if !filepath.IsAbs(text) {
			text = filepath.Join(filepath.Dir(r.path), text)
		}
		return text, nil
	}
	r.section(root, "", fields{
		"nets": func(n *yaml.Node) {
			r.section(n, "nets", fields{
				"allow": list(r, "nets.allow", &s.AllowNets, true, parseNet),
				"only":  list(r, "nets.only", &s.OnlyNets, false, parseNet),
				"deny":  list(r, "nets.deny", &s.DenyNets, true, parseNet),
			})
		},
		"ports": func(n *yaml.Node) {
			r.section(n, "ports", fields{
				"allow": list(r, "ports.allow", &s.Ports, false, parsePorts),
				"deny":  list(r, "ports.deny", &deny, true, parsePorts),
			})
		},
		"rate":        scalar(r, "rate", &s.Rate, parseRate),
		"concurrency": scalar(r, "concurrency", &s.Concurrency, parseInt(1, maxConcurrency)),
		"budget": func(n *yaml.Node) {
			r.section(n, "budget", fields{
				"attempts": scalar(r, "budget.attempts", &s.Budget.Number, parseInt(1, maxAttempts)),
				"window":   scalar(r, "budget.window", &s.Budget.Window, parseDuration(time.Second, maxWindow)),
			})
		},
		"do_not_probe": scalar(r, "do_not_probe", &s.DoNotProbe, path),
		"kill_switch":  scalar(r, "kill_switch", &s.KillSwitch, path),
		"contact_log": func(n *yaml.Node) {
			r.section(n, "contact_log", fields{
				"path": scalar(r, "contact_log.path", &s.ContactLog, path),
				"sync": scalar(r, "contact_log.sync", &s.ContactsSync, parseSync),
			})
			if s.ContactLog == "" {
				r.fail(n, "contact_log: the path is missing")
			}
		},
		"listen": func(n *yaml.Node) {
			r.section(n, "listen", fields{
				"enabled":      scalar(r, "listen.enabled", &s.Listen.Enabled, parseBool),
				"ports":        list(r, "listen.ports", &s.Listen.Ports, false, parsePorts),
				"max_duration": scalar(r, "listen.max_duration", &s.Listen.MaxDuration, parseDuration(time.Second, maxListen)),
				"sources":      list(r, "listen.sources", &s.Listen.Sources, false, parseNet),
			})
			if s.Listen.Enabled && (s.Listen.Ports == nil || s.Listen.Sources == nil) {
				r.fail(n, "listen: ports and sources have to be said")
			}
		},
	})
	ports := newPortSet(s.Ports...).without(newPortSet(deny...))
	s.Ports = ports.ranges()
	if root == nil {
		return
	}
	if len(s.Ports) == 0 {
		r.fail(root, "ports: every allowed port is denied; use the kill switch")
	}
	if most := s.Rate * s.Budget.Window.Seconds(); most > maxTracked {
		r.fail(root, "budget.window: %v connections per second can reach %.0f addresses in %v, and the probe can keep count of %d; a window of %v is possible",
			s.Rate, most, s.Budget.Window, maxTracked, time.Duration(maxTracked/s.Rate*float64(time.Second)).Truncate(time.Second))
	}
}

func parseNet(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network such as 192.0.2.0/24", shown(s))
}

func parseRate(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || v <= 0 || v > maxRate {
		return 0, fmt.Errorf("%q is not a number of connections per second, above 0 and up to %d", shown(s), maxRate)
	}
	return v, nil
}

func parseInt(lowest, highest int) func(string) (int, error) {
	return func(s string) (int, error) {
		v, err := strconv.Atoi(s)
		if err != nil || v < lowest || v > highest {
			return 0, fmt.Errorf("%q is not a number from %d to %d", shown(s), lowest, highest)
		}
		return v, nil
	}
}

func parseDuration(lowest, highest time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		v, err := time.ParseDuration(s)
		if err != nil || v < lowest || v > highest {
			return 0, fmt.Errorf("%q is not a time such as 90s or 10m, from %v to %v", shown(s), lowest, highest)
		}
		return v, nil
	}
}

func parseSync(s string) (SyncPolicy, error) {
	switch s {
	case "always":
		return SyncAlways, nil
	case "never":
		return SyncNever, nil
	}
	d, err := parseDuration(10*time.Millisecond, time.Hour)(s)
	if err != nil {
		err = fmt.Errorf("%w, nor always, nor never", err)
	}
	return SyncPolicy(d), err
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true", "yes", "on":
		return true, nil
	case "false", "no", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", shown(s))
}
