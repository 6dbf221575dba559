package node

import (
	"path/filepath"
	"reflect"
	"testing"
)

// The sample of a region in parts: every process is there once, and all agree
// about the others.
func TestSampleOfARegionInParts(t *testing.T) {
	files, err := filepath.Glob("../../../deploy/parts/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no samples", err)
	}
	var common *Processes
	there := map[string]bool{}
	admins := map[string]bool{}
	for _, f := range files {
		c, err := ReadConfig(f)
		if err != nil {
			t.Error(err)
			continue
		}
		if c.Name+".yaml" != filepath.Base(f) || admins[c.Admin] || (c.Admin == "") != c.Has(RoleStore) {
			t.Errorf("%s: name %s, admin %q", f, c.Name, c.Admin)
		}
		there[c.Name], admins[c.Admin] = true, true
		if common == nil {
			common = &c.Processes
		}
		if !reflect.DeepEqual(*common, c.Processes) {
			t.Errorf("%s knows other processes than %s", f, files[0])
		}
	}
	for _, p := range append(append([]Process{{Name: "sh-store"}, {Name: "sh-access-1"}}, common.Logic...), common.Presence...) {
		if !there[p.Name] {
			t.Errorf("%s has no file", p.Name)
		}
	}
}
