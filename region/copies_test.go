package region

import (
	"slices"
	"testing"
)

// Who has the second copy of a home, as it changes hands.
func TestCopies(t *testing.T) {
	for _, c := range []struct {
		what   string
		region Region
		want   []ID
	}{
		{"it acts itself", Region{ID: "sh", Acting: Acting{Region: "sh"}, Backups: []ID{"hk", "ca"}}, []ID{"hk"}},
		{"without backups", Region{ID: "sh", Acting: Acting{Region: "sh"}}, nil},
		{"another acts", Region{ID: "sh", Acting: Acting{Region: "hk"}, Backups: []ID{"hk", "ca"}}, []ID{"sh"}},
		{"another acts, and the home is gone", Region{ID: "sh", Acting: Acting{Region: "hk"}, Backups: []ID{"hk", "ca"}, NewBackup: "ca"}, []ID{"ca", "sh"}},
	} {
		got := c.region.Copies()
		backup, ok := c.region.Backup()
		if !slices.Equal(got, c.want) || ok != (len(c.want) > 0) || ok && backup != c.want[0] {
			t.Errorf("%s: copies at %v, backup %q, want %v", c.what, got, backup, c.want)
		}
	}
}
