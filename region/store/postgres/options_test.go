package postgres_test

import (
	"testing"

	"github.com/homing-im/homing/region/store/postgres"
)

func TestHasPassword(t *testing.T) {
	for dsn, want := range map[string]bool{
		"host=a user=b":                          false,
		"host=a user=b password=c":               true,
		"host=a password = 'c d'":                true,
		"host=a passfile=/x":                     false,
		"postgres://b@a/d":                       false,
		"postgres://b:c@a/d":                     true,
		"postgres://b@a,h/d?password=c":          true,
		"postgresql://b@a/d?sslmode=verify-full": false,
	} {
		if got := postgres.HasPassword(dsn); got != want {
			t.Errorf("%s: %v", dsn, got)
		}
	}
}
