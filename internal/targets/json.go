package targets

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
)

// jsonEntry holds the fields other tools use: ip and port (ours, zgrab), addr
// (zdns), dip and dp (flow records), domain (zgrab).
type jsonEntry struct {
	IP     string          `json:"ip"`
	Addr   string          `json:"addr"`
	DIP    string          `json:"dip"`
	Domain string          `json:"domain"`
	Port   json.RawMessage `json:"port"` // some tools quote their numbers
	DP     json.RawMessage `json:"dp"`
}

// parseJSON parses one JSON object on one line. An empty or null field counts
// as absent, unknown fields are ignored. With an address and a domain, the
// address is measured and the domain kept as its name.
func parseJSON(line string) (entry, error) {
	var j jsonEntry
	dec := json.NewDecoder(strings.NewReader(line))
	if err := dec.Decode(&j); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) && typ.Field != "" {
			return entry{}, reasonf("JSON field %q has the wrong type", typ.Field)
		}
		return entry{}, reason("not a JSON object on one line")
	}
	if rest := strings.TrimSpace(line[dec.InputOffset():]); rest != "" && rest[0] != '#' {
		return entry{}, reason("only a comment may follow the JSON object")
	}

	var e entry
	for _, s := range []string{j.IP, j.Addr, j.DIP} {
		if s == "" {
			continue
		}
		a, err := parseAddr(s)
		if err != nil {
			return entry{}, err
		}
		if e.block.IsValid() && e.block != single(a) {
			return entry{}, reason("the JSON object holds two different addresses")
		}
		e.block = single(a)
	}
	for _, raw := range []json.RawMessage{j.Port, j.DP} {
		s := strings.Trim(string(raw), `"`)
		if s == "" || s == "null" {
			continue
		}
		p, err := parsePort(s)
		if err != nil {
			return entry{}, err
		}
		if e.port != 0 && e.port != p {
			return entry{}, reason("the JSON object holds two different ports")
		}
		e.port = p
	}
	if j.Domain != "" {
		name, err := hostName(j.Domain)
		if err != nil {
			return entry{}, err
		}
		e.host = name
	}
	if e.host == "" && e.block == (netip.Prefix{}) {
		return entry{}, reason("the JSON object has no ip, addr, dip or domain")
	}
	return e, nil
}
