package store

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
)

// ErrNewer: the database was made by a newer version of this program, which
// may mean something else by what is in it.
var ErrNewer = errors.New("made by a newer version of this program")

//go:embed migrations
var migrations embed.FS

// The scripts that lead from an empty database to the newest schema; the one
// at index i leads to version i+1. They are append-only. With PostgreSQL a
// controller of the version before may still be at work while a newer one
// migrates: a script must leave alone what the older program uses.
var (
	sqliteScripts   = scripts("sqlite")
	postgresScripts = scripts("postgres")
)

func scripts(dialect string) (texts []string) {
	dir, err := fs.Sub(migrations, "migrations/"+dialect)
	if err != nil {
		panic(err) // what is embedded can be read
	}
	files, err := fs.ReadDir(dir, ".")
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		text, err := fs.ReadFile(dir, f.Name())
		if err != nil {
			panic(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

// checkVersion is about a database of the version; scripts are what this program
// knows.
func checkVersion(version int, scripts []string) error {
	if version > len(scripts) {
		return fmt.Errorf("schema version %d: %w, this one knows up to %d: run the newer one, or restore a backup from before it",
			version, ErrNewer, len(scripts))
	}
	return nil
}
