package dashboard

import (
	"embed"
	"io/fs"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"

	"tfofleet/internal/report/html"
	pb "tfofleet/proto/tfofleet/v1"
)

// Config is what a dashboard stands on.
type Config struct {
	// Control is asked about surveys and probes.
	Control pb.ControlServiceClient
	// Datasets finds the evidence; nil: none is shown.
	Datasets Datasets
	Logger   hclog.Logger
	// Every is how often surveys and probes are asked about for each page that
	// is open; 0 means DefaultEvery.
	Every time.Duration
}

// DefaultEvery is what a person takes for at once.
const DefaultEvery = time.Second

// Datasets finds where a survey's results are: a place that package dataset
// reads.
type Datasets interface {
	Dataset(survey string) (place string, err error)
}

//go:embed page
var files embed.FS

type dashboard struct {
	Config
	reports chan struct{} // holds one for every report being made
}

// New is the handler of the dashboard's pages.
func New(c Config) http.Handler {
	if c.Every <= 0 {
		c.Every = DefaultEvery
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	d := &dashboard{Config: c, reports: make(chan struct{}, 1)}
	own, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // it is embedded above
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, own, "index.html") })
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(html.Assets())))
	mux.Handle("GET /own/", http.StripPrefix("/own/", http.FileServerFS(own)))
	mux.HandleFunc("GET /events", d.events)
	mux.HandleFunc("GET /surveys/{survey}/measurements", d.measurements)
	mux.HandleFunc("GET /surveys/{survey}/evidence", d.evidence)
	mux.HandleFunc("GET /surveys/{survey}/report.html", d.report)
	return guard(mux)
}
