package replicator_test

import (
	"io/fs"
	"path/filepath"
	"strings"
)

// logFiles returns the segment files of a region's broker.
func logFiles(r *testRegion) []string { return filesBelow(r.dir, ".dat") }

// filesBelow returns the files with an ending in the directories whose name has
// the prefix, if one is given.
func filesBelow(dir, ending string, prefix ...string) []string {
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ending) {
			return err
		}
		if len(prefix) == 0 || strings.HasPrefix(filepath.Base(filepath.Dir(path)), prefix[0]) {
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		panic(err) // a test's own directory
	}
	return out
}
