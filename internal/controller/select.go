package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/identity"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// candidate is a probe that may be selected.
type candidate struct {
	name      string
	labels    map[string]string
	connected bool
}

// candidates are the members that can be given work, by name.
func (s *Server) candidates(ctx context.Context) ([]candidate, error) {
	probes, err := s.cfg.Store.AllProbes(ctx)
	if err != nil {
		return nil, err
	}
	drained := make(map[string]bool)
	for _, p := range probes {
		drained[p.Name] = p.Drained
	}
	sessions, err := s.cfg.Store.Sessions(ctx, s.stale())
	if err != nil {
		return nil, err
	}
	connected := make(map[string]bool)
	for _, session := range sessions {
		connected[session.Probe] = true
	}
	var all []candidate
	if s.cfg.Authority == nil {
		for _, p := range probes {
			all = append(all, candidate{name: p.Name, connected: connected[p.Name]})
		}
	} else {
		members, err := s.cfg.Authority.Members(ctx, identity.KindProbe)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			if m.Banned.IsZero() {
				all = append(all, candidate{m.Name, m.Labels, connected[m.Name]})
			}
		}
	}
	return slices.DeleteFunc(all, func(c candidate) bool { return drained[c.name] }), nil
}

// share says how a survey is divided among probes: its mode, the probes per
// target, and their names, which are none where any probe will do.
func (s *Server) share(ctx context.Context, req *pb.CreateSurveyRequest) (store.Mode, int, []string, error) {
	mode := req.GetMode()
	if mode == pb.SurveyMode_SURVEY_MODE_UNSPECIFIED {
		mode = pb.SurveyMode_SURVEY_MODE_SHARD
	}
	if _, ok := pb.SurveyMode_name[int32(mode)]; !ok {
		return 0, 0, nil, status.Errorf(codes.InvalidArgument, "mode %d is not known here", mode)
	}
	if mode == pb.SurveyMode_SURVEY_MODE_SHARD && req.GetProbes() == nil {
		return store.Shard, 1, nil, nil
	}
	all, err := s.candidates(ctx)
	if err != nil {
		return 0, 0, nil, err
	}
	names, err := choose(all, req.GetProbes(), req.GetSpec().GetSeed())
	if err != nil {
		return 0, 0, nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	switch mode {
	case pb.SurveyMode_SURVEY_MODE_EVERY:
		return store.Every, len(names), names, nil
	case pb.SurveyMode_SURVEY_MODE_COPIES:
		switch k := int(req.GetCopies()); {
		case k < 1:
			return 0, 0, nil, status.Error(codes.InvalidArgument, "a target is to be measured by 1 probe or more")
		case k > len(names):
			return 0, 0, nil, status.Errorf(codes.FailedPrecondition, "every target is to be measured by %d probes, and %d are selected", k, len(names))
		case k == len(names):
			return store.Every, k, names, nil
		default:
			return store.Copies, k, names, nil
		}
	}
	return store.Shard, 1, names, nil
}

// choose is the names of the probes that a selector selects, sorted. A nil
// selector selects all.
func choose(all []candidate, sel *pb.ProbeSelector, seed uint64) ([]string, error) {
	wanted := make(map[string][]string) // values by key
	for _, l := range sel.GetLabels() {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("label %q: want KEY=VALUE", l)
		}
		wanted[key] = append(wanted[key], value)
	}
	missing := make(map[string]bool)
	for _, name := range sel.GetNames() {
		missing[name] = true
	}
	var chosen []candidate
	for _, c := range all {
		if len(sel.GetNames()) > 0 && !slices.Contains(sel.GetNames(), c.name) {
			continue
		}
		delete(missing, c.name)
		if has(c.labels, wanted) {
			chosen = append(chosen, c)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no probe that can be given work is called %s", strings.Join(slices.Sorted(maps.Keys(missing)), ", "))
	}
	for _, key := range slices.Sorted(maps.Keys(sel.GetMaxPer())) {
		chosen = thin(chosen, key, int(sel.GetMaxPer()[key]), seed)
	}
	if len(chosen) == 0 {
		return nil, errors.New("no probe is selected")
	}
	names := make([]string, len(chosen))
	for i, c := range chosen {
		names[i] = c.name
	}
	slices.Sort(names)
	return names, nil
}

func has(labels map[string]string, wanted map[string][]string) bool {
	for key, values := range wanted {
		if v, ok := labels[key]; !ok || !slices.Contains(values, v) {
			return false
		}
	}
	return true
}

// thin leaves at most n probes with the same value of a label, and all without
// the label as one such group.
func thin(all []candidate, key string, n int, seed uint64) []candidate {
	order := slices.Clone(all)
	slices.SortFunc(order, func(a, b candidate) int {
		if a.connected != b.connected {
			if a.connected {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(lot(seed, a.name), lot(seed, b.name)), cmp.Compare(a.name, b.name))
	})
	had := make(map[string]int)
	return slices.DeleteFunc(order, func(c candidate) bool {
		had[c.labels[key]]++
		return had[c.labels[key]] > n
	})
}

// lot is the place of a name in the order that a seed gives.
func lot(seed uint64, name string) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, seed, " ", name) // a hash never fails
	x := h.Sum64()
	// Names differ in their last letters, which a FNV hash hardly spreads.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}
