package identity

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestReplaceIsWhole: whoever reads while a file is replaced sees the old one or
// the new one.
func TestReplaceIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "file")
	contents := [][]byte{bytes.Repeat([]byte("1"), 5000), bytes.Repeat([]byte("2"), 9000)}
	if err := replacePrivate(path, contents[0]); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, err := readPrivate(path)
			if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
				t.Errorf("%d bytes, %v", len(got), err)
				return
			}
		}
	})
	for i := range 100 {
		if err := replacePrivate(path, contents[i%2]); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	wg.Wait()
	onlyFile(t, path)
}

// onlyFile fails when a temporary file was left.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestCreateOnce: of many that create the file one does, and its content stays.
func TestCreateOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var made []byte
	for i := range 16 {
		wg.Go(func() {
			err := createPrivate(path, []byte{byte(i)})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made = append(made, byte(i))
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := readPrivate(path)
	if err != nil || len(made) != 1 || !bytes.Equal(got, made) {
		t.Errorf("made by %v, content %v, %v", made, got, err)
	}
	onlyFile(t, path)
}

func TestReadPrivateIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := replacePrivate(path, make([]byte, maxFile+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := readPrivate(path); err == nil {
		t.Error("a huge file was read")
	}
	if _, err := readPrivate("/dev/zero"); err == nil {
		t.Error("a device was read")
	}
}
