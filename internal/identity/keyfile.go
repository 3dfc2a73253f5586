package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// header is the beginning of each of our JSON files.
type header struct {
	Format int `json:"format"`
	// Check is the SHA-256 of the file's JSON with an empty Check: a flipped bit
	// can leave a certificate that parses, of somebody else.
	Check string `json:"check"`
}

const fileFormat = 1

func (h *header) head() *header { return h }

// headed is a file's content: a pointer to a struct that embeds header.
type headed interface{ head() *header }

func sum(f headed) (string, error) {
	check := f.head().Check
	defer func() { f.head().Check = check }()
	f.head().Check = ""
	data, err := json.Marshal(f)
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:]), err
}

// encodeFile is the file's bytes.
func encodeFile(f headed) (data []byte, err error) {
	f.head().Format = fileFormat
	if f.head().Check, err = sum(f); err != nil {
		return nil, err
	}
	return json.MarshalIndent(f, "", "\t")
}

// decodeFile reads what encodeFile wrote, and nothing else. The errors do not
// quote the file: it holds keys.
func decodeFile(data []byte, into headed) error {
	if err := json.Unmarshal(data, into); err != nil {
		return errors.New("damaged: not the JSON that was written")
	}
	if got := into.head().Format; got != fileFormat {
		return fmt.Errorf("format %d; this program knows %d", got, fileFormat)
	}
	if want, err := sum(into); err != nil || want != into.head().Check {
		return errors.New("damaged: the checksum does not fit")
	}
	return nil
}
