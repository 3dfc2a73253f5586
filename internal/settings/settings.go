// Package settings gives the flags of a long-running program the other two
// places they can come from: the environment and one YAML file. A flag counts
// more than the environment, that more than the file, and that more than the
// default.
//
// What a setting means may not enter.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// Variable is the environment variable of a flag: TFOFLEET_LOG_LEVEL is that of
// --log-level.
func Variable(flag string) string {
	return "TFOFLEET_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Plain is the error of a flag without the function that read its number.
func Plain(err error) error {
	var number *strconv.NumError
	if errors.As(err, &number) {
		return errors.New(strings.Replace(err.Error(), number.Error(), number.Err.Error(), 1))
	}
	return err
}

// Apply sets the named flags of a command that were not given, from the
// environment or from the file; the path of the file may be empty. The file's
// keys are the names of the flags, and a list has all values of a flag that
// takes several. A key that is not among the names is an error.
func Apply(cmd *cobra.Command, path string, names ...string) error {
	file, err := read(path)
	if err != nil {
		return err
	}
	for key := range file {
		if !slices.Contains(names, key) {
			return fmt.Errorf("%s: %q is no setting: want one of %s", path, key, strings.Join(names, ", "))
		}
	}
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			continue
		}
		if value, ok := os.LookupEnv(Variable(name)); ok {
			if err := cmd.Flags().Set(name, value); err != nil {
				return fmt.Errorf("%s: %w", Variable(name), err)
			}
			continue
		}
		for _, value := range file[name] {
			if err := cmd.Flags().Set(name, value); err != nil {
				return fmt.Errorf("%s: %s: %w", path, name, err)
			}
		}
	}
	return nil
}

// read is the values of every key of a file.
func read(path string) (map[string][]string, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return values, nil
}

func parse(data []byte) (map[string][]string, error) {
	var nodes map[string]yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&nodes); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	values := make(map[string][]string, len(nodes))
	for key, n := range nodes {
		list := []*yaml.Node{&n}
		if n.Kind == yaml.SequenceNode {
			list = n.Content
		}
		values[key] = []string{}
		for _, v := range list {
			if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
				return nil, fmt.Errorf("line %d: %q wants a value, or a list of values", v.Line, key)
			}
			values[key] = append(values[key], v.Value)
		}
	}
	return values, nil
}
