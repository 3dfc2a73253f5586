package dataset

import "tfofleet/internal/dataset/place"

// Join is the directory, or prefix of a bucket, below another: filepath.Join
// for all that this package takes as dir.
func Join(dir string, elem ...string) string { return place.Join(dir, elem...) }

// CheckDir says what is wrong with the form of dir; it looks at nothing in it.
func CheckDir(dir string) error {
	_, err := place.At(dir)
	return err
}

// Dirs gives the names of what is directly below dir, in no order: of lists, or
// of datasets.
func Dirs(dir string) ([]string, error) {
	p, err := place.At(dir)
	if err != nil {
		return nil, err
	}
	return p.Dirs()
}
