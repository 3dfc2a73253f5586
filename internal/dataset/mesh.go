package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tfofleet/internal/dataset/place"
	"tfofleet/internal/measure"
)

// meshDir holds a table for each mesh.
const meshDir = "mesh"

// MeshRow is what both ends of one measurement between two probes say together.
// The client's evidence is in the measurements table, under the mesh's name as
// its survey, the client's as its probe, and the item; the server's is here.
type MeshRow struct {
	Mesh           string
	Started        time.Time // by the client's clock; zero when the client was lost
	Client, Server string
	Family         int // 4 or 6
	Port           uint16
	Address        netip.Addr // of the server, that was measured
	// ClientAddress is the client's as the server saw it, the first of several;
	// invalid when nothing is known to have arrived.
	ClientAddress netip.Addr
	Item          uint64

	Verdict    measure.JointVerdict
	Direction  measure.Direction
	Doubt      measure.Doubt
	NAT        measure.NAT
	CarrierNAT bool
	// Attempts are the client's; Joined of them have their arrival. Unmatched are
	// sides without the other one.
	Attempts, Joined, Unmatched int
	ClientVerdict               measure.Verdict // the client's alone; 0 when there is none
	// ClientLost and ServerLost: the end vanished before it had reported.
	ClientLost, ServerLost bool
	Differences            []measure.PathDifference

	Nonce measure.Nonce
	// Evidence is what the server saw, as [measure.EncodeArrivals] makes it: with
	// it and the client's evidence the pair can be judged again. Nil when there
	// is nothing.
	Evidence []byte
}

// Judged fills in what follows from a judgement.
func (r *MeshRow) Judged(j *measure.Judgement) {
	r.Verdict, r.Direction, r.Doubt = j.Verdict, j.Direction, j.Doubt
	r.NAT, r.CarrierNAT = j.NAT, j.CarrierNAT
	r.Attempts, r.Joined, r.Unmatched = len(j.Pairs), 0, j.Unmatched
	r.ClientAddress = netip.Addr{}
	for i := range j.Pairs {
		a := j.Pairs[i].Arrival
		if a == nil {
			continue
		}
		if r.Joined++; !r.ClientAddress.IsValid() && j.Pairs[i].Sight != measure.SightOther {
			r.ClientAddress = a.Peer.Addr().Unmap()
		}
	}
	r.Differences = j.Differences
}

// meshFile is the name of a mesh's table.
func meshFile(mesh string) string { return meshDir + "/" + escape(mesh) + tableExt }

// isMeshFile reports whether a name, without its directory, is a table's.
func isMeshFile(name string) bool {
	stem, ok := strings.CutSuffix(name, tableExt)
	mesh, ok2 := unescape(stem)
	return ok && ok2 && mesh != ""
}

// meshFiles lists the tables by name.
func meshFiles(p place.Place) (files []File, err error) {
	infos, err := p.List(meshDir)
	for _, i := range infos {
		if isMeshFile(i.Name) {
			files = append(files, File{meshDir + "/" + i.Name, i.Size})
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, err
}

// WriteMesh writes all rows of one mesh, in the order given, and returns when
// they are durable. The table is created once: writing the same again is no
// error, writing another is fs.ErrExist. Without rows there is no table.
func (w *Writer) WriteMesh(rows []MeshRow) error {
	if len(rows) == 0 {
		return nil
	}
	mesh := rows[0].Mesh
	if mesh == "" || slices.ContainsFunc(rows, func(r MeshRow) bool { return r.Mesh != mesh }) {
		return errors.New("write mesh: the rows are not of one mesh that has a name")
	}
	if err := w.writeMesh(meshFile(mesh), rows); err != nil {
		return fmt.Errorf("write mesh %s: %w", mesh, err)
	}
	return nil
}

func (w *Writer) writeMesh(name string, rows []MeshRow) error {
	if err := w.p.Prepare(meshDir); err != nil {
		return err
	}
	f, err := w.p.New(meshDir)
	if err != nil {
		return err
	}
	defer f.Discard()
	// Kept to compare with what is there; a mesh is some megabytes.
	var content bytes.Buffer
	out := &sealer{f: f}
	t := newRowWriter[meshRow](out)
	for part := range slices.Chunk(rows, batchRows) {
		var cells [batchRows]meshCells
		stored := make([]meshRow, len(part))
		for i := range part {
			stored[i].fill(&part[i], &cells[i])
		}
		if err := t.Write(stored); err != nil {
			return err
		}
	}
	if err := t.w.Close(); err != nil {
		return err
	}
	if err := out.seal(); err != nil {
		return err
	}
	if _, err := io.Copy(&content, io.NewSectionReader(f, 0, out.size+sealSize)); err != nil {
		return err
	}
	if err := f.Finish(); err != nil {
		return err
	}
	err = f.Create(base(name))
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	there, loadErr := w.p.Load(name, nil)
	if loadErr != nil {
		return loadErr
	}
	if !bytes.Equal(there, content.Bytes()) {
		return err
	}
	return nil
}

// ReadMesh streams the rows of every mesh of a dataset, mesh by mesh in the order
// of their names and within one in the order written. A dataset without a mesh
// has none; that is no error. It ends after the first error.
func ReadMesh(dir string) iter.Seq2[MeshRow, error] {
	return func(yield func(MeshRow, error) bool) {
		p, err := place.At(dir)
		if err != nil {
			yield(MeshRow{}, err)
			return
		}
		files, err := meshFiles(p)
		if err != nil {
			yield(MeshRow{}, err)
			return
		}
		for _, f := range files {
			if !meshRowsOf(p, f.Name, yield) {
				return
			}
		}
	}
}

// meshRowsOf reports whether to go on with the next table.
func meshRowsOf(p place.Place, name string, yield func(MeshRow, error) bool) bool {
	for stored, err := range storedMesh(p, name) {
		var r MeshRow
		if err == nil {
			if r, err = stored.row(); err != nil {
				err = inFile(p.Path(name), err)
			}
		}
		if !yield(r, err) || err != nil {
			return false
		}
	}
	return true
}

// storedMesh streams a table as it is. It ends after the first error.
func storedMesh(p place.Place, name string) iter.Seq2[*meshRow, error] {
	return func(yield func(*meshRow, error) bool) {
		t, err := openTable[meshRow](p, name)
		if err != nil {
			yield(nil, err)
			return
		}
		defer t.Close()
		for {
			stored, err := t.next()
			if err == io.EOF || !yield(stored, err) || err != nil {
				return
			}
		}
	}
}

// meshRow is one row of a mesh's table; see measurementRow.
type meshRow struct {
	Mesh          string   `parquet:"mesh,dict"`
	Started       *int64   `parquet:"started,timestamp(microsecond)"`
	Client        string   `parquet:"client,dict"`
	Server        string   `parquet:"server,dict"`
	Family        int32    `parquet:"family,dict"`
	Port          int32    `parquet:"port,dict"`
	Address       string   `parquet:"address,optional,dict"`
	ClientAddress string   `parquet:"client_address,optional,dict"`
	Item          int64    `parquet:"item,delta"`
	Verdict       string   `parquet:"verdict,dict"`
	Direction     string   `parquet:"direction,optional,dict"`
	Doubt         string   `parquet:"doubt,optional,dict"`
	NATAddress    string   `parquet:"nat_address,dict"`
	NATPort       string   `parquet:"nat_port,dict"`
	NATChanging   string   `parquet:"nat_changing,dict"`
	CarrierNAT    string   `parquet:"carrier_nat,dict"`
	Attempts      int32    `parquet:"attempts,dict"`
	Joined        int32    `parquet:"joined,dict"`
	Unmatched     int32    `parquet:"unmatched,dict"`
	ClientVerdict string   `parquet:"client_verdict,optional,dict"`
	Lost          string   `parquet:"lost,optional,dict"`
	Differences   []string `parquet:"differences,list" parquet-element:",dict"`
	Nonce         [16]byte `parquet:"nonce"`
	Evidence      []byte   `parquet:"evidence,optional"`
}

// meshCells is the memory behind the pointers of a meshRow.
type meshCells struct{ started int64 }

var (
	jointVerdicts = enumOf[measure.JointVerdict]()
	directions    = enumOf[measure.Direction]()
	doubts        = newEnum[measure.Doubt](doubtNames()...)
	synFields     = enumOf[measure.SynField]()
)

func doubtNames() (names []string) {
	for d := measure.DoubtNone; d.String() != "unknown"; d++ {
		names = append(names, d.String())
	}
	return names
}

// Which ends were lost.
const (
	lostClient = "client"
	lostServer = "server"
	lostBoth   = "both"
)

func (s *meshRow) fill(r *MeshRow, c *meshCells) {
	*s = meshRow{
		Mesh: r.Mesh, Started: instant(&c.started, r.Started), Client: r.Client, Server: r.Server, Family: int32(r.Family), Port: int32(r.Port),
		Address: addrText(r.Address), ClientAddress: addrText(r.ClientAddress), Item: int64(r.Item),
		Verdict:    jointVerdicts.name(r.Verdict),
		NATAddress: tris.name(r.NAT.Address), NATPort: tris.name(r.NAT.Port), NATChanging: tris.name(r.NAT.Changing), CarrierNAT: yesNo(r.CarrierNAT),
		Attempts: int32(r.Attempts), Joined: int32(r.Joined), Unmatched: int32(r.Unmatched),
		Nonce: r.Nonce, Evidence: r.Evidence,
	}
	if r.Direction != measure.DirectionUnknown {
		s.Direction = directions.name(r.Direction)
	}
	if r.Doubt != measure.DoubtNone {
		s.Doubt = doubts.name(r.Doubt)
	}
	if r.ClientVerdict != 0 {
		s.ClientVerdict = verdicts.name(r.ClientVerdict)
	}
	switch {
	case r.ClientLost && r.ServerLost:
		s.Lost = lostBoth
	case r.ClientLost:
		s.Lost = lostClient
	case r.ServerLost:
		s.Lost = lostServer
	}
	for _, d := range r.Differences {
		s.Differences = append(s.Differences, differenceText(d))
	}
}

// row is the inverse of fill.
func (s *meshRow) row() (MeshRow, error) {
	var p parser
	r := MeshRow{
		Mesh: s.Mesh, Started: when(s.Started), Client: s.Client, Server: s.Server, Family: int(s.Family), Port: uint16(s.Port),
		Address: p.addr("address", s.Address), ClientAddress: p.addr("client_address", s.ClientAddress), Item: uint64(s.Item),
		Verdict: parse(&p, jointVerdicts, "verdict", s.Verdict),
		NAT: measure.NAT{
			Address:  parse(&p, tris, "nat_address", s.NATAddress),
			Port:     parse(&p, tris, "nat_port", s.NATPort),
			Changing: parse(&p, tris, "nat_changing", s.NATChanging),
		},
		CarrierNAT: s.CarrierNAT == "yes",
		Attempts:   int(s.Attempts), Joined: int(s.Joined), Unmatched: int(s.Unmatched),
		ClientLost: s.Lost == lostClient || s.Lost == lostBoth,
		ServerLost: s.Lost == lostServer || s.Lost == lostBoth,
		Nonce:      s.Nonce, Evidence: blob(s.Evidence),
	}
	if s.Direction != "" {
		r.Direction = parse(&p, directions, "direction", s.Direction)
	}
	if s.Doubt != "" {
		r.Doubt = parse(&p, doubts, "doubt", s.Doubt)
	}
	if s.ClientVerdict != "" {
		r.ClientVerdict = parse(&p, verdicts, "client_verdict", s.ClientVerdict)
	}
	for _, text := range s.Differences {
		d, err := parseDifference(text)
		if err != nil {
			p.fail(fmt.Errorf("differences: %w", err))
		}
		r.Differences = append(r.Differences, d)
	}
	return r, p.err
}
