// Package image builds a container image from one static binary, without a base image, a registry or a container engine.
package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
)

// Image says what is in an image.
type Image struct {
	Binary string // the static binary's file
	Path   string // its absolute path in the image, and the entrypoint
	Tag    string // the image's full name
	User   string // numeric uid:gid, since runAsNonRoot can't be checked for a name
}

// Nonroot is the same user as in distroless images.
const Nonroot = "65532:65532"

// Write writes the image in the format of `docker save`, which `ctr images import`, `docker load` and
// `kind load image-archive` read. Equal input gives equal output.
func (i Image) Write(w io.Writer) error {
	if !path.IsAbs(i.Path) {
		return fmt.Errorf("the path in the image, %q, is not absolute", i.Path)
	}
	layer, err := os.CreateTemp("", "layer-*.tar")
	if err != nil {
		return fmt.Errorf("creating the layer: %w", err)
	}
	defer layer.Close()
	defer os.Remove(layer.Name())

	digest := sha256.New()
	if err := i.writeLayer(io.MultiWriter(layer, digest)); err != nil {
		return fmt.Errorf("writing the layer: %w", err)
	}
	size, err := layer.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("measuring the layer: %w", err)
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("rewinding the layer: %w", err)
	}

	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config": map[string]any{
			"Entrypoint": []string{i.Path},
			"User":       i.User,
			"WorkingDir": "/",
			"Env":        []string{"PATH=" + path.Dir(i.Path)},
		},
		"rootfs": map[string]any{
			"type":     "layers",
			"diff_ids": []string{"sha256:" + hex.EncodeToString(digest.Sum(nil))},
		},
	})
	if err != nil {
		return fmt.Errorf("encoding the configuration: %w", err)
	}
	manifest, err := json.Marshal([]map[string]any{
		{"Config": "config.json", "RepoTags": []string{i.Tag}, "Layers": []string{"layer.tar"}},
	})
	if err != nil {
		return fmt.Errorf("encoding the manifest: %w", err)
	}

	archive := tar.NewWriter(w)
	for _, file := range []struct {
		name    string
		size    int64
		content io.Reader
	}{
		{"manifest.json", int64(len(manifest)), strings.NewReader(string(manifest))},
		{"config.json", int64(len(config)), strings.NewReader(string(config))},
		{"layer.tar", size, layer},
	} {
		if err := writeFile(archive, file.name, 0o644, file.size, file.content); err != nil {
			return fmt.Errorf("writing %s: %w", file.name, err)
		}
	}
	return archive.Close()
}

func (i Image) writeLayer(w io.Writer) error {
	binary, err := os.Open(i.Binary)
	if err != nil {
		return err
	}
	defer binary.Close()
	info, err := binary.Stat()
	if err != nil {
		return err
	}

	layer := tar.NewWriter(w)
	name := strings.TrimPrefix(path.Clean(i.Path), "/")
	for at, char := range name {
		if char == '/' {
			if err := writeDir(layer, name[:at], 0o755); err != nil {
				return err
			}
		}
	}
	if err := writeDir(layer, "tmp", 0o1777); err != nil {
		return err
	}
	if err := writeFile(layer, name, 0o755, info.Size(), binary); err != nil {
		return err
	}
	return layer.Close()
}

func writeDir(w *tar.Writer, name string, mode int64) error {
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
}

func writeFile(w *tar.Writer, name string, mode, size int64, content io.Reader) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size}); err != nil {
		return err
	}
	_, err := io.Copy(w, content)
	return err
}
