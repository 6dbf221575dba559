package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// The committed database is what the CSV files give, twice in a row.
func TestCommittedDatabaseIsGenerated(t *testing.T) {
	want, err := os.ReadFile("../demo.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var got bytes.Buffer
		if err := generate(&got, placesCSV, networksCSV); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("generated %d bytes differ from demo.mmdb's %d: run go generate ./dns/geo", got.Len(), len(want))
		}
	}
}

func TestMistakesInCSV(t *testing.T) {
	const place = "x,X,CN,AS,1,2\n"
	for _, c := range []struct{ name, places, networks, want string }{
		{"unknown place", place, "1.0.0.0/8,y,1,n\n", `place "y" is not in places.csv`},
		{"host bits", place, "1.2.0.0/8,x,1,n\n", "its network is 1.0.0.0/8"},
		{"no prefix", place, "1.2.0.0,x,1,n\n", "no '/'"},
		{"twice", place, "1.0.0.0/8,x,1,n\n1.0.0.0/8,x,2,n\n", "is there twice"},
		{"no ASN", place, "1.0.0.0/8,x,AS1,n\n", "invalid syntax"},
		{"reserved", place, "127.0.0.0/8,x,1,n\n", "reserved"},
		{"columns", place, "1.0.0.0/8,x,1\n", "wrong number of fields"},
		{"coordinates", "x,X,CN,AS,91,2\n", "", "are no coordinates"},
		{"place twice", place + place, "", "is there twice"},
	} {
		err := generate(&bytes.Buffer{}, []byte(c.places), []byte(c.networks))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}
