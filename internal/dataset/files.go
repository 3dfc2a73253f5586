package dataset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"tfofleet/internal/dataset/place"
)

// File is a complete file of a dataset.
type File struct {
	Name string // relative to the dataset, with slashes
	Size int64  // bytes
}

// Files lists the complete files of a dataset in an order in which they may be
// copied: what is copied so far is good to read, the attempts of a chunk come
// before its measurements and survey.json, which says how the survey stands,
// comes last. Attempts that no measurements name are not among them. Nothing of
// it changes but survey.json: what is sent of that has the size it has when it
// is opened.
func Files(dir string) ([]File, error) {
	p, err := place.At(dir)
	if err != nil {
		return nil, err
	}
	// In this order: what measurements name has been there before them, and
	// survey.json counts no more than is in the tables.
	whole, err := p.List("")
	if err != nil {
		return nil, err
	}
	measurements, err := p.List(measurementsDir)
	if err != nil {
		return nil, err
	}
	attempts, err := p.List(attemptsDir)
	if err != nil {
		return nil, err
	}
	meshes, err := meshFiles(p)
	if err != nil {
		return nil, err
	}
	var files []File
	var survey *File
	for _, i := range whole {
		switch i.Name {
		case targetsFile:
			files = append(files, File{i.Name, i.Size})
		case surveyFile:
			survey = &File{i.Name, i.Size}
		}
	}
	if survey == nil {
		return nil, fmt.Errorf("%s is not a dataset: %w", dir, fs.ErrNotExist)
	}
	if files, err = chunkFilesOf(p, files, measurements, attempts); err != nil {
		return nil, err
	}
	return append(append(files, meshes...), *survey), nil
}

// chunkFilesOf adds the files of all chunks in the order of [Chunks].
func chunkFilesOf(p place.Place, files []File, measurements, attempts []place.Info) ([]File, error) {
	type chunk struct {
		key  ChunkKey
		size int64
	}
	var written []chunk
	for _, i := range measurements {
		if k, id, ok := parseKey(i.Name); ok && id == "" {
			written = append(written, chunk{k, i.Size})
		}
	}
	slices.SortFunc(written, func(a, b chunk) int { return a.key.compare(b.key) })
	of := make(map[ChunkKey][]File, len(attempts))
	for _, i := range attempts {
		if k, _, ok := parseKey(i.Name); ok {
			of[k] = append(of[k], File{attemptsDir + "/" + i.Name, i.Size})
		}
	}
	for _, c := range written {
		named := of[c.key]
		if len(named) != 1 {
			id, err := attemptsOf(p, c.key)
			if err != nil {
				return nil, err
			}
			named = slices.DeleteFunc(named, func(f File) bool { return f.Name != c.key.attempts(id) })
			if len(named) != 1 {
				return nil, &fs.PathError{Op: "open", Path: p.Path(c.key.attempts(id)), Err: fs.ErrNotExist}
			}
		}
		files = append(files, named[0], File{c.key.measurements(), c.size})
	}
	return files, nil
}

// splitName takes a file's name apart; ok is false for what is no name of a
// file of a dataset, and so for all that would lead out of it.
func splitName(name string) (dir, base string, ok bool) {
	if name == surveyFile || name == targetsFile {
		return "", name, true
	}
	dir, base, _ = strings.Cut(name, "/")
	if dir == meshDir {
		return dir, base, isMeshFile(base)
	}
	k, id, ok := parseKey(base)
	switch {
	case !ok:
	case dir == measurementsDir:
		ok = name == k.measurements()
	case dir == attemptsDir:
		ok = name == k.attempts(id)
	default:
		ok = false
	}
	return dir, base, ok
}

// OpenFile opens a file of a dataset by its name in [Files].
func OpenFile(dir, name string) (place.Source, error) {
	if _, _, ok := splitName(name); !ok {
		return nil, fmt.Errorf("%q is no file of a dataset", name)
	}
	p, err := place.At(dir)
	if err != nil {
		return nil, err
	}
	return p.Open(name)
}

// Missing gives those files of a survey's dataset that dir does not have in
// that size, in their order. survey.json, which changes, is always among them.
// It makes dir when it is not there, and refuses one that holds another survey.
func Missing(dir, survey string, files []File) ([]File, error) {
	p, err := place.At(dir)
	if err != nil {
		return nil, err
	}
	if s, err := ReadSurvey(dir); err == nil && s.ID != survey {
		return nil, fmt.Errorf("%s holds survey %s, not %s", dir, s.ID, survey)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	dirs := []string{measurementsDir, attemptsDir}
	if slices.ContainsFunc(files, func(f File) bool { return strings.HasPrefix(f.Name, meshDir+"/") }) {
		dirs = append(dirs, meshDir)
	}
	if err := p.Prepare(dirs...); err != nil {
		return nil, err
	}
	have := make(map[File]bool)
	for _, d := range append(dirs, "") {
		infos, err := p.List(d)
		if err != nil {
			return nil, err
		}
		for _, i := range infos {
			name := i.Name
			if d != "" {
				name = d + "/" + name
			}
			have[File{name, i.Size}] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(files), func(f File) bool { return f.Name != surveyFile && have[f] }), nil
}

// Receive reads the content of a file from r to its end and puts it into dir,
// which [Missing] has prepared: whole, or not at all when r breaks off, holds
// another number of bytes or a table that is damaged.
func Receive(dir string, file File, r io.Reader) error {
	base, name, ok := splitName(file.Name)
	if !ok {
		return fmt.Errorf("%q is no file of a dataset", file.Name)
	}
	p, err := place.At(dir)
	if err != nil {
		return err
	}
	f, err := p.New(base)
	if err != nil {
		return err
	}
	defer f.Discard()
	n, err := io.Copy(f, io.LimitReader(r, file.Size+1))
	if err != nil {
		return inFile(file.Name, err)
	}
	if n != file.Size {
		return inFile(file.Name, fmt.Errorf("%d bytes or more came, not %d", n, file.Size))
	}
	if file.Name != surveyFile {
		if err := checkSeal(f, n); err != nil {
			return inFile(file.Name, err)
		}
	}
	if err := f.Finish(); err != nil {
		return err
	}
	return f.Replace(name)
}
