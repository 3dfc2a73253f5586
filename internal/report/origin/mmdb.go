package origin

import (
	"errors"
	"net/netip"
	"strings"
	"sync"

	"github.com/oschwald/maxminddb-golang/v2"
)

// mmdb is a MaxMind database. Its records are decoded once: there are as many
// as ASes and countries, not as prefixes.
type mmdb struct {
	db      *maxminddb.Reader
	k       Knows
	records sync.Map // of uintptr, the record's place, to Origin
}

func openMMDB(path string) (*mmdb, error) {
	db, err := maxminddb.Open(path)
	if err != nil {
		return nil, err
	}
	m := &mmdb{db: db}
	kind := strings.ToLower(db.Metadata.DatabaseType)
	m.k.AS = strings.Contains(kind, "asn") || strings.Contains(kind, "isp") || strings.Contains(kind, "enterprise")
	m.k.Country = strings.Contains(kind, "country") || strings.Contains(kind, "city") || strings.Contains(kind, "enterprise")
	if m.k == (Knows{}) {
		// Of another maker: what the first record has.
		for r := range db.Networks() {
			o, err := decode(r)
			if err != nil {
				db.Close()
				return nil, err
			}
			m.k = Knows{AS: o.ASN != 0, Country: o.Country != ""}
			break
		}
	}
	if m.k == (Knows{}) {
		db.Close()
		return nil, errors.New("a database of type " + db.Metadata.DatabaseType + ", with neither AS nor country")
	}
	return m, nil
}

func (m *mmdb) knows() Knows { return m.k }

func (m *mmdb) lookup(a netip.Addr) Origin {
	r := m.db.Lookup(a)
	if !r.Found() {
		return Origin{}
	}
	at := r.Offset()
	o, ok := m.records.Load(at)
	if !ok {
		d, err := decode(r)
		if err != nil {
			d = Origin{} // a record that is damaged says nothing
		}
		o, _ = m.records.LoadOrStore(at, d)
	}
	return o.(Origin)
}

// decode reads the fields of GeoLite2 ASN, Country and City, and the flat ones
// of ipinfo and DB-IP.
func decode(r maxminddb.Result) (Origin, error) {
	var rec struct {
		ASN     uint32 `maxminddb:"autonomous_system_number"`
		Country any    `maxminddb:"country"`
		Code    string `maxminddb:"country_code"`
		Flat    any    `maxminddb:"asn"`
	}
	if err := r.Decode(&rec); err != nil {
		return Origin{}, err
	}
	o := Origin{ASN: rec.ASN}
	if s, ok := rec.Flat.(string); ok && o.ASN == 0 {
		o.ASN, _ = parseASN(s)
	}
	code := rec.Code
	switch c := rec.Country.(type) {
	case map[string]any:
		if s, ok := c["iso_code"].(string); ok {
			code = s
		}
	case string:
		if code == "" {
			code = c
		}
	}
	o.Country = country(code)
	return o, nil
}
