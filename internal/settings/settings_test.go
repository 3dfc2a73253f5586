package settings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// run applies a file, an environment and arguments to three flags.
func run(t *testing.T, file string, env map[string]string, args ...string) (name string, hosts []string, port int, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	for k, v := range env {
		t.Setenv(k, v)
	}
	cmd := &cobra.Command{RunE: func(cmd *cobra.Command, _ []string) error { return Apply(cmd, path, "name", "a-host", "port") }}
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.Flags().StringVar(&name, "name", "none", "")
	cmd.Flags().StringSliceVar(&hosts, "a-host", nil, "")
	cmd.Flags().IntVar(&port, "port", 1, "")
	cmd.SetArgs(args)
	return name, hosts, port, cmd.Execute()
}

// The nearer place wins.
func TestOrder(t *testing.T) {
	file := "name: file\na-host: [x, y]\nport: 2\n"
	name, hosts, port, err := run(t, file, map[string]string{"TFOFLEET_NAME": "env", "TFOFLEET_PORT": "3"}, "--port", "4")
	if err != nil || name != "env" || !slices.Equal(hosts, []string{"x", "y"}) || port != 4 {
		t.Errorf("%q %q %d %v", name, hosts, port, err)
	}
}

func TestDefaults(t *testing.T) {
	if name, hosts, port, err := run(t, "", nil); err != nil || name != "none" || hosts != nil || port != 1 {
		t.Errorf("%q %q %d %v", name, hosts, port, err)
	}
}

func TestMistakes(t *testing.T) {
	for file, want := range map[string]string{
		"nam: x\n":           `"nam" is no setting`,
		"port: many\n":       "port",
		"name: {a: b}\n":     "line 1",
		"name:\n":            "wants a value",
		"name: a\n---\nb: c": "more than one document",
		"- x\n":              "cannot unmarshal",
	} {
		if _, _, _, err := run(t, file, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "a: b", "a: [b, 1, true]", "a: {}", "? x", "&a [*a]", "a: !!binary x", "---\n---\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if values, err := parse(data); err == nil && values == nil {
			t.Error("no values and no error")
		}
	})
}
