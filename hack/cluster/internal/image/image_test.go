package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestWrite(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(binary, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	img := Image{Binary: binary, Path: "/opt/bin/app", Tag: "example.test/app:1", User: Nonroot}
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := img.Write(out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("equal input gave different images")
	}

	files := read(t, &first)
	var config struct {
		Config struct {
			Entrypoint []string
			User       string
		}
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(files["config.json"], &config); err != nil {
		t.Fatal(err)
	}
	if want := []string{img.Path}; !slices.Equal(config.Config.Entrypoint, want) || config.Config.User != img.User {
		t.Errorf("got %+v, want entrypoint %q and user %q", config.Config, want, img.User)
	}
	digest := sha256.Sum256(files["layer.tar"])
	if want := []string{"sha256:" + hex.EncodeToString(digest[:])}; !slices.Equal(config.RootFS.DiffIDs, want) {
		t.Errorf("got layers %q, want %q", config.RootFS.DiffIDs, want)
	}
	layer := read(t, bytes.NewReader(files["layer.tar"]))
	if got := string(layer["opt/bin/app"]); got != "content" {
		t.Errorf("got %q in the image, want what is in the binary", got)
	}
	for _, dir := range []string{"opt/", "opt/bin/", "tmp/"} {
		if _, found := layer[dir]; !found {
			t.Errorf("the image has no folder %s", dir)
		}
	}
}

func TestWriteRefusesARelativePath(t *testing.T) {
	if err := (Image{Binary: os.Args[0], Path: "app", Tag: "app"}).Write(io.Discard); err == nil {
		t.Error("got no error")
	}
}

// read returns the files of an archive, by name.
func read(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}
