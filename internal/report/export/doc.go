// Package export writes datasets in forms that other tools of the field read:
// PATHspider's result records, observation set files of the Path Transparency
// Observatory, and the handshakes as pcapng. Our own forms, with nothing left
// out, are those of internal/dataset.
//
// What may not enter: files and terminals; who calls brings the writer.
package export

import (
	"fmt"
	"io"
)

// Format is a form to write a dataset in.
type Format string

const (
	PATHspider Format = "pathspider"
	PTO        Format = "pto"
	PCAPNG     Format = "pcapng"
)

// Formats lists them.
func Formats() []Format { return []Format{PATHspider, PTO, PCAPNG} }

// Write streams the dataset in dir to w.
func Write(dir string, f Format, w io.Writer) error {
	switch f {
	case PATHspider:
		return writePATHspider(dir, w)
	case PTO:
		return writePTO(dir, w)
	case PCAPNG:
		return writePCAPNG(dir, w)
	}
	return fmt.Errorf("unknown format %q", f)
}
