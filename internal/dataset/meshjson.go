package dataset

import (
	"encoding/json"
	"fmt"

	"tfofleet/internal/dataset/place"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// pairs writes every pair of the meshes: the columns of the table, and in place
// of the evidence what is in it.
func (e *exporter) pairs(dir string) error {
	p, err := place.At(dir)
	if err != nil {
		return err
	}
	files, err := meshFiles(p)
	if err != nil {
		return err
	}
	for _, f := range files {
		for r, err := range storedMesh(p, f.Name) {
			if err != nil {
				return err
			}
			if e.line, err = appendPair(e.line[:0], r); err != nil {
				return inFile(p.Path(f.Name), err)
			}
			if _, err := e.w.Write(e.line); err != nil {
				return err
			}
		}
	}
	return nil
}

// arrivalJSON is an arrival with the attempt that it was of.
type arrivalJSON struct {
	Attempt *int `json:"attempt"` // null when its payload does not say
	tfo.ArrivalJSON
}

func appendPair(b []byte, r *meshRow) ([]byte, error) {
	arrivals, alarms := []arrivalJSON{}, []tfo.AlarmJSON{}
	if len(r.Evidence) > 0 {
		as, als, err := measure.DecodeArrivals(r.Evidence)
		if err != nil {
			return b, fmt.Errorf("evidence of %s to %s: %w", r.Client, r.Server, err)
		}
		for _, a := range as {
			j := arrivalJSON{ArrivalJSON: a.JSON()}
			j.Time = j.Time.UTC()
			if tag, ok := measure.TagOf(a.Request); ok && tag.Nonce == r.Nonce {
				j.Attempt = &tag.Attempt
			}
			arrivals = append(arrivals, j)
		}
		for _, a := range als {
			j := a.JSON()
			j.Time = j.Time.UTC()
			alarms = append(alarms, j)
		}
	}
	o := jsonObject{append(b, '{')}
	r.each(&o)
	for _, list := range []struct {
		name string
		of   any
	}{{"arrivals", arrivals}, {"alarms", alarms}} {
		text, err := json.Marshal(list.of)
		if err != nil {
			return b, err
		}
		o.name(list.name)
		o.b = append(o.b, text...)
	}
	return append(o.b, "}\n"...), nil
}

// each gives the columns but the evidence, in their order.
func (s *meshRow) each(o *jsonObject) {
	o.text("mesh", s.Mesh)
	o.time("started", s.Started)
	o.text("client", s.Client)
	o.text("server", s.Server)
	o.number("family", int64(s.Family))
	o.number("port", int64(s.Port))
	o.text("address", s.Address)
	o.text("client_address", s.ClientAddress)
	o.number("item", s.Item)
	o.text("verdict", s.Verdict)
	o.text("direction", s.Direction)
	o.text("doubt", s.Doubt)
	o.text("nat_address", s.NATAddress)
	o.text("nat_port", s.NATPort)
	o.text("nat_changing", s.NATChanging)
	o.text("carrier_nat", s.CarrierNAT)
	o.number("attempts", int64(s.Attempts))
	o.number("joined", int64(s.Joined))
	o.number("unmatched", int64(s.Unmatched))
	o.text("client_verdict", s.ClientVerdict)
	o.text("lost", s.Lost)
	o.list("differences", s.Differences)
	o.hex("nonce", s.Nonce[:])
}
