package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"tfofleet/internal/targets"
	"tfofleet/internal/tfo"
)

// limits are what the probe of a survey may do, and from where. They are not
// part of the survey, but whoever resumes it must not forget one: a blocklist
// that is left out on the second day protects nobody.
type limits struct {
	Lab       bool           `json:"lab"`
	Allow     []netip.Prefix `json:"allow"`
	Blocklist string         `json:"blocklist"` // the content of the list
	Resolver  string         `json:"resolver"`
	NetNS     string         `json:"netns"`
}

func limitsFile(dir string) string { return filepath.Join(dir, stateDir, "limits.json") }

// limits gathers what the flags say, the content of the blocklist included.
func (f *surveyFlags) limits() (limits, error) {
	l := limits{Lab: f.lab, Allow: f.allow, Resolver: f.resolver, NetNS: f.netns}
	if f.blocklist == "" {
		return l, nil
	}
	file, err := openFile(f.blocklist, "check the path in --blocklist FILE")
	if err != nil {
		return l, err
	}
	defer file.Close()
	// No bad line is taken: what cannot be read could not be protected.
	var content []byte
	if content, err = io.ReadAll(file); err != nil {
		return l, unreadable(err, "check the file in --blocklist FILE")
	}
	l.Blocklist = string(content)
	_, err = parseBlocklist(l.Blocklist, f.blocklist)
	return l, err
}

// join adds the limits that a survey began with: blocks are added to blocks,
// and what is not said again stays.
func (l limits) join(began limits) limits {
	l.Allow = append(began.Allow, l.Allow...)
	l.Blocklist = began.Blocklist + "\n" + l.Blocklist
	if l.Resolver == "" {
		l.Resolver = began.Resolver
	}
	if l.NetNS == "" {
		l.NetNS = began.NetNS
	}
	return l
}

// recall reads the limits of the survey in a dataset. A directory without them
// is for the resume itself to refuse.
func recall(dir string, lab bool) (l limits, err error) {
	b, err := os.ReadFile(limitsFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return limits{Lab: lab}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	switch {
	case err != nil:
		return l, unreadable(err)
	case l.Lab && !lab:
		return l, usage("the survey in %s is one of the lab: give --lab as well", dir)
	case !l.Lab && lab:
		return l, usage("the survey in %s is not one of the lab: leave out --lab", dir)
	}
	return l, nil
}

// remember writes the limits beside the state of the survey.
func (l limits) remember(dir string) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return os.WriteFile(limitsFile(dir), b, 0o600)
}

// site is what the limits say to the probe.
func (l limits) site() (s site, err error) {
	s.netns = tfo.NetNS(l.NetNS)
	s.policy.Allow = targets.NewPrefixes(l.Allow...)
	if s.policy.Block, err = parseBlocklist(l.Blocklist, "the blocklist"); err != nil {
		return s, err
	}
	if l.Resolver != "" {
		s.resolver, err = parseResolver(l.Resolver)
	}
	return s, err
}
