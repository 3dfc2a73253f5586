package aggregate

import (
	"fmt"
	"slices"

	"tfofleet/internal/dataset"
)

// scene is where measurements were made: surveys, and the vantage points that
// have measured for them.
type scene struct {
	surveys  []dataset.Survey // by dataset
	datasets []string         // names of them
	vantages []string         // names, sorted
	// number is that of the vantage point a probe of a dataset is.
	number []map[string]uint32
	files  int // of measurements
}

// look reads what there is to know before anything is counted.
func look(dirs []string) (*scene, error) {
	s := &scene{number: make([]map[string]uint32, len(dirs))}
	for _, dir := range dirs {
		survey, err := dataset.ReadSurvey(dir)
		if err != nil {
			return nil, err
		}
		s.surveys = append(s.surveys, *survey)
		s.datasets = append(s.datasets, survey.ID)
	}
	var of []map[string]string // by dataset, the vantage point of a probe
	for i, dir := range dirs {
		keys, err := dataset.Chunks(dir)
		if err != nil {
			return nil, err
		}
		s.files += len(keys)
		names := map[string]string{}
		for _, k := range keys {
			if _, ok := names[k.Probe]; !ok {
				names[k.Probe] = s.vantageName(i, k.Probe)
				s.vantages = append(s.vantages, names[k.Probe])
			}
		}
		of = append(of, names)
	}
	slices.Sort(s.vantages)
	s.vantages = slices.Compact(s.vantages)
	for i, names := range of {
		s.number[i] = make(map[string]uint32, len(names))
		for probe, name := range names {
			at, _ := slices.BinarySearch(s.vantages, name)
			s.number[i][probe] = uint32(at)
		}
	}
	return s, nil
}

// SameSurvey is the error of two datasets of one survey where their
// measurements are added up: each would count twice.
type SameSurvey struct {
	ID   string
	Dirs [2]string
}

func (e *SameSurvey) Error() string {
	return fmt.Sprintf("survey %s is given twice, as %s and %s", e.ID, e.Dirs[0], e.Dirs[1])
}

// distinct refuses datasets of which two are one survey.
func (s *scene) distinct(dirs []string) error {
	for i, id := range s.datasets {
		if first := slices.Index(s.datasets, id); first < i {
			return &SameSurvey{id, [2]string{dirs[first], dirs[i]}}
		}
	}
	return nil
}

// vantageName is the probe's name; and the host as well where probes of one name
// were on different hosts, as every survey without a fleet calls its probe
// "local".
func (s *scene) vantageName(survey int, probe string) string {
	host := s.host(survey, probe)
	for i := range s.surveys {
		if other := s.host(i, probe); host != "" && other != "" && other != host {
			return probe + "@" + host
		}
	}
	return probe
}

func (s *scene) host(survey int, probe string) string {
	if p := s.probe(survey, probe); p != nil {
		return p.Hostname
	}
	return ""
}

func (s *scene) probe(survey int, name string) *dataset.Probe {
	for i := range s.surveys[survey].Probes {
		if p := &s.surveys[survey].Probes[i]; p.Name == name {
			return p
		}
	}
	return nil
}

// vantage is the number of the vantage point a batch is from. Chunks that were
// written since look are passed over: see known.
func (s *scene) vantage(b *dataset.Batch) uint32 { return s.number[b.Dir][b.Probe] }

// known reports whether the batch's probe was there when look looked.
func (s *scene) known(b *dataset.Batch) bool {
	_, ok := s.number[b.Dir][b.Probe]
	return ok
}

func (s *scene) kernel(b *dataset.Batch) string {
	if p := s.probe(b.Dir, b.Probe); p != nil && p.Kernel != "" {
		return p.Kernel
	}
	return Unknown
}

// Datasets is the names of the datasets in dirs: the ids of their surveys. The
// error is a [SameSurvey] if two are the same.
func Datasets(dirs ...string) ([]string, error) {
	s, err := look(dirs)
	if err != nil {
		return nil, err
	}
	return s.datasets, s.distinct(dirs)
}

// Namer tells the vantage point that a probe of a dataset is, by the dataset's place in
// dirs.
func Namer(dirs ...string) (func(dataset int, probe string) string, error) {
	s, err := look(dirs)
	if err != nil {
		return nil, err
	}
	return func(dataset int, probe string) string {
		if n, ok := s.number[dataset][probe]; ok {
			return s.vantages[n]
		}
		return probe // its first chunk was written since
	}, nil
}

// Vantages is the vantage points that measured for each dataset, sorted; what is
// the same in several has the same name.
func Vantages(dirs ...string) ([][]string, error) {
	s, err := look(dirs)
	if err != nil {
		return nil, err
	}
	out := make([][]string, len(dirs))
	for i, probes := range s.number {
		for _, v := range probes {
			out[i] = append(out[i], s.vantages[v])
		}
		slices.Sort(out[i])
	}
	return out, nil
}
