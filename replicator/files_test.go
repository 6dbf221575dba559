package replicator_test

import (
	"io/fs"
	"path/filepath"
	"strings"
)

// logFiles returns the segment files of a region's broker.
func logFiles(r *testRegion) []string {
	var out []string
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".dat") {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		r.w.t.Fatal(err)
	}
	return out
}
