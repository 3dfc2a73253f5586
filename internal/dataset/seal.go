package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"tfofleet/internal/dataset/place"
)

// A Parquet file has checksums for its pages, but none for what says where
// they are and how they are packed; a flipped bit there sends a reader astray,
// up to the end of memory. So every table carries a seal over all of it: 8
// bytes right before the footer, where no reader of Parquet looks.
//
//	"PAR1" pages | "tfo1" CRC-32C (little endian) | footer, its length, "PAR1"
//
// The CRC is over the file without the seal.
const (
	sealMagic   = "tfo1"
	sealSize    = 8
	trailerSize = 8 // the footer's length, 4 bytes little endian, and "PAR1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealer writes a table and sums it up on the way.
type sealer struct {
	f    place.File
	sum  uint32
	size int64
}

func (s *sealer) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	s.sum = crc32.Update(s.sum, castagnoli, p[:n])
	s.size += int64(n)
	return n, err
}

// seal moves the footer of the finished table and puts the seal before it.
func (s *sealer) seal() error {
	start, err := footerStart(s.f, s.size)
	if err != nil {
		return err
	}
	tail := make([]byte, sealSize+s.size-start)
	copy(tail, sealMagic)
	binary.LittleEndian.PutUint32(tail[len(sealMagic):], s.sum)
	if _, err := s.f.ReadAt(tail[sealSize:], start); err != nil {
		return err
	}
	_, err = s.f.WriteAt(tail, start)
	return err
}

// footerStart is the offset of the footer in a Parquet file of that size.
func footerStart(f io.ReaderAt, size int64) (int64, error) {
	var trailer [trailerSize]byte
	if size >= trailerSize {
		if _, err := f.ReadAt(trailer[:], size-trailerSize); err != nil {
			return 0, err
		}
	}
	if string(trailer[4:]) != "PAR1" {
		return 0, errors.New("cut off or damaged: it does not end as a table does")
	}
	start := size - trailerSize - int64(binary.LittleEndian.Uint32(trailer[:]))
	if start < 0 {
		return 0, errors.New("cut off or damaged: its footer is larger than the file")
	}
	return start, nil
}

// checkSeal reads all of a table and compares it with its seal.
func checkSeal(f io.ReaderAt, size int64) error {
	start, err := footerStart(f, size)
	if err != nil {
		return err
	}
	var seal [sealSize]byte
	if start < sealSize {
		return errors.New("cut off or damaged: no room for the seal")
	}
	if _, err := f.ReadAt(seal[:], start-sealSize); err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, start-sealSize)); err != nil {
		return err
	}
	if _, err := io.Copy(sum, io.NewSectionReader(f, start, size-start)); err != nil {
		return err
	}
	if want := binary.LittleEndian.Uint32(seal[len(sealMagic):]); string(seal[:len(sealMagic)]) != sealMagic || want != sum.Sum32() {
		return fmt.Errorf("cut off or damaged: CRC-32C %08x, the seal is %q %08x", sum.Sum32(), seal[:len(sealMagic)], want)
	}
	return nil
}
