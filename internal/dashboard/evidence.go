package dashboard

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/html"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// pageRows is how many measurements a page gets at a time.
	pageRows = 50
	// searchChunks is how many chunks one question may cost.
	searchChunks = 16
)

// rowView is a measurement in a list.
type rowView struct {
	Chunk    uint32 `json:"chunk"`
	Probe    string `json:"probe"`
	Item     uint64 `json:"item"`
	Address  string `json:"address"` // empty without
	Port     uint16 `json:"port"`
	Hostname string `json:"hostname,omitempty"`
	Outcome  string `json:"outcome"`
	Verdict  string `json:"verdict,omitempty"`
	Attempts int    `json:"attempts"`
}

// rowsView is a part of a list.
type rowsView struct {
	Rows []rowView `json:"rows"`
	// Next is where to go on; empty at the end of what is finished.
	Next string `json:"next,omitempty"`
	// Chunks are finished, of which Searched come before Next.
	Chunks   int `json:"chunks"`
	Searched int `json:"searched"`
}

// place is where the survey of a request is kept. That there is such a survey,
// and that the operator may know of it, the controller says.
func (d *dashboard) place(r *http.Request) (id, place string, err error) {
	id = r.PathValue("survey")
	if _, err := d.Control.GetSurvey(r.Context(), &pb.GetSurveyRequest{Survey: id}); err != nil {
		return id, "", err
	}
	if d.Datasets == nil {
		return id, "", status.Error(codes.NotFound, "no dataset is kept here")
	}
	place, err = d.Datasets.Dataset(id)
	if errors.Is(err, fs.ErrNotExist) {
		err = status.Error(codes.NotFound, "the survey has no dataset yet")
	}
	return id, place, err
}

// measurements lists what is in finished chunks: query parameters verdict (or
// outcome), q (a part of name, address or probe) and after (Next of the answer
// before).
func (d *dashboard) measurements(w http.ResponseWriter, r *http.Request) {
	id, place, err := d.place(r)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	from, err := parseCursor(r.URL.Query().Get("after"))
	if err != nil {
		d.fail(w, r, status.Error(codes.InvalidArgument, err.Error()))
		return
	}
	keys, err := dataset.Chunks(place)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	late, err := dataset.FindSuperseded(place, keys)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	q := query{strings.ToLower(r.URL.Query().Get("q")), r.URL.Query().Get("verdict")}
	out := rowsView{Rows: []rowView{}, Chunks: len(keys)}
	read := 0
	for _, k := range keys {
		at := cursor{k.Chunk, k.Probe, k.Late, 0}
		if k.Survey != id || at.before(from) && !at.same(from) {
			out.Searched++
			continue
		}
		if len(out.Rows) >= pageRows || read >= searchChunks {
			out.Next = at.String()
			break
		}
		read++
		if at.same(from) {
			at.row = from.row
		}
		if out.Next, err = q.find(place, k, late, at, &out); err != nil {
			d.fail(w, r, err)
			return
		}
		if out.Next != "" {
			break
		}
		out.Searched++
	}
	d.answer(w, r, out)
}

// query is what is looked for.
type query struct{ text, verdict string }

// find adds what is in one chunk from a row on; next is where the page is full.
func (q query) find(place string, k dataset.ChunkKey, late *dataset.Superseded, at cursor, out *rowsView) (next string, err error) {
	row := 0
	for rec, err := range dataset.ReadChunk(place, k) {
		if err != nil {
			return "", err
		}
		row++
		if row <= at.row || !q.matches(&rec) || late.Row(k, rec.Item) {
			continue
		}
		if len(out.Rows) >= pageRows {
			at.row = row - 1
			return at.String(), nil
		}
		v := rowView{
			Chunk: k.Chunk, Probe: k.Probe, Item: rec.Item, Address: address(&rec), Port: rec.Port, Hostname: rec.Hostname,
			Outcome: rec.Outcome.String(), Attempts: len(rec.Attempts),
		}
		if rec.Verdict != 0 {
			v.Verdict = rec.Verdict.String()
		}
		out.Rows = append(out.Rows, v)
	}
	return "", nil
}

func address(r *dataset.Record) string {
	if !r.Addr.IsValid() {
		return ""
	}
	return r.Addr.String()
}

func (q query) matches(r *dataset.Record) bool {
	if q.verdict != "" && q.verdict != r.Verdict.String() && q.verdict != r.Outcome.String() {
		return false
	}
	return q.text == "" || strings.Contains(strings.ToLower(fmt.Sprintf("%s %s:%d %s", r.Hostname, address(r), r.Port, r.Probe)), q.text)
}

// cursor is a place in the list of all measurements.
type cursor struct {
	chunk uint32
	probe string
	late  uint32
	row   int
}

func (c cursor) String() string { return fmt.Sprintf("%d,%d,%d,%s", c.chunk, c.late, c.row, c.probe) }

func (c cursor) before(d cursor) bool {
	return cmp.Or(cmp.Compare(c.chunk, d.chunk), cmp.Compare(c.probe, d.probe), cmp.Compare(c.late, d.late)) < 0
}

func (c cursor) same(d cursor) bool {
	return c.chunk == d.chunk && c.probe == d.probe && c.late == d.late
}

func parseCursor(s string) (c cursor, err error) {
	if s == "" {
		return cursor{}, nil
	}
	parts := strings.SplitN(s, ",", 4)
	if len(parts) < 4 {
		return c, errors.New("after is not of an answer of ours")
	}
	chunk, err1 := strconv.ParseUint(parts[0], 10, 32)
	late, err2 := strconv.ParseUint(parts[1], 10, 32)
	row, err3 := strconv.ParseUint(parts[2], 10, 31)
	if err1 != nil || err2 != nil || err3 != nil {
		return c, errors.New("after is not of an answer of ours")
	}
	return cursor{uint32(chunk), parts[3], uint32(late), int(row)}, nil
}

// evidence is one measurement: query parameters chunk, probe and item.
func (d *dashboard) evidence(w http.ResponseWriter, r *http.Request) {
	id, place, err := d.place(r)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	get := r.URL.Query().Get
	chunk, err1 := strconv.ParseUint(get("chunk"), 10, 32)
	item, err2 := strconv.ParseUint(get("item"), 10, 64)
	if err1 != nil || err2 != nil {
		d.fail(w, r, status.Error(codes.InvalidArgument, "chunk and item are numbers"))
		return
	}
	survey, err := dataset.ReadSurvey(place)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	plan, err := measure.ParsePlan(survey.Spec.Plan)
	if err != nil {
		plan = measure.Standard // of a later version; the words are the same
	}
	keys, err := dataset.Chunks(place)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	want := dataset.ChunkKey{Survey: id, Probe: get("probe"), Chunk: uint32(chunk)}
	for _, k := range slices.Backward(keys) { // late files first: they count
		if want.Late = k.Late; k != want {
			continue
		}
		for rec, err := range dataset.ReadChunk(place, k) {
			if err != nil {
				d.fail(w, r, err)
				return
			}
			if rec.Item == item {
				d.answer(w, r, html.EvidenceOf(plan, rec.Probe, &rec.Measurement))
				return
			}
		}
	}
	d.fail(w, r, status.Error(codes.NotFound, "no such measurement is finished"))
}

// report is the file of what is finished, to keep.
func (d *dashboard) report(w http.ResponseWriter, r *http.Request) {
	id, place, err := d.place(r)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	select {
	case d.reports <- struct{}{}:
		defer func() { <-d.reports }()
	default:
		w.Header().Set("Retry-After", "10")
		d.fail(w, r, status.Error(codes.Unavailable, "another report is being made; try again in a moment"))
		return
	}
	m, err := html.Collect(r.Context(), html.Options{}, place)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", "survey-"+fileName(id)+".html"))
	if err := m.Write(w, html.Options{}); err != nil {
		d.Logger.Debug("report broke off", "survey", id, "error", err)
	}
}

// fileName is an id without what is special in a file's name.
func fileName(id string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' {
			return c
		}
		return '_'
	}, id)
}

func (d *dashboard) answer(w http.ResponseWriter, r *http.Request, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(b) // an error is that of who asked
}
