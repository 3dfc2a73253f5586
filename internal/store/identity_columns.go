package store

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"tfofleet/internal/identity"
)

// The types of columns that databases do not have, or each in its way.

// micros is a time as µs since 1970, null for the zero time.
type micros time.Time

func (m micros) Value() (driver.Value, error) {
	if time.Time(m).IsZero() {
		return nil, nil
	}
	return time.Time(m).UnixMicro(), nil
}

func (m *micros) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*m = micros{}
	case int64:
		*m = micros(time.UnixMicro(v).UTC())
	default:
		return fmt.Errorf("a time that is %T", v)
	}
	return nil
}

// labels are JSON text.
type labels identity.Labels

func (l labels) Value() (driver.Value, error) {
	b, err := json.Marshal(identity.Labels(l))
	return string(b), err
}

func (l *labels) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("labels that are %T", v)
	}
	return json.Unmarshal([]byte(text), (*identity.Labels)(l))
}

// hash is its bytes.
type hash identity.Hash

func (h *hash) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(h) {
		return fmt.Errorf("a hash that is %T of %d bytes", v, len(b))
	}
	copy(h[:], b)
	return nil
}
