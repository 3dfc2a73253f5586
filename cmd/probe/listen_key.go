package main

import (
	"errors"
	"fmt"
	"os"

	"tfofleet/internal/tfo"
)

// keys reads the keys from the flag or the file.
func (f *listenFlags) keys() ([]tfo.Key, error) {
	text := f.key
	switch {
	case f.key != "" && f.keyFile != "":
		return nil, fail(exitUsage, errors.New("--key and --key-file exclude each other"))
	case f.keyFile != "":
		b, err := readSecret(f.keyFile)
		if err != nil {
			return nil, err
		}
		text = string(b)
	case f.key == "":
		return nil, nil
	}
	keys, err := tfo.ParseKeys(text)
	if err != nil {
		return nil, fail(exitUsage, err, "make one with: openssl rand -hex 16")
	}
	return keys, nil
}

// readSecret reads a file that nobody but its owner may read. The permissions
// are those of the file that is read, not of one put in its place meanwhile.
func readSecret(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fail(exitUsage, fmt.Errorf("key file: %w", err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fail(exitUsage, fmt.Errorf("key file: %w", err))
	}
	if !info.Mode().IsRegular() {
		return nil, fail(exitUsage, fmt.Errorf("key file %s is not a regular file", name))
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fail(exitUsage, fmt.Errorf("key file %s can be read by others (mode %04o)", name, mode), "chmod 600 "+name)
	}
	b := make([]byte, 1024) // two keys take 71 bytes
	n, err := file.Read(b)
	if err != nil {
		return nil, fail(exitUsage, fmt.Errorf("key file %s holds nothing", name), "make a key with: openssl rand -hex 16")
	}
	return b[:n], nil
}
