package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/oschwald/maxminddb-golang/v2"
)

const (
	head  = "# Generated: Thu, 25 Jun 2026 04:33:59 GMT\n"
	zones = "CN\t+3114+12128\tAsia/Shanghai\nDE\t+5230+01322\tEurope/Berlin\nDE\t+4742+00841\tEurope/Busingen\n" +
		"AU\t-3133+15905\tAustralia/Lord_Howe\nAU\t-3352+15113\tAustralia/Sydney\nBR\t-2332-04637\tAmerica/Sao_Paulo\nCA\t+4339-07923\tAmerica/Toronto\n" +
		"FM\t+0658+15813\tPacific/Pohnpei\nRU\t+554521+0373704\tEurope/Moscow\nUA\t+5026+03031\tEurope/Kyiv\nUS\t+4151-08739\tAmerica/Chicago\nUZ\t+4120+06918\tAsia/Tashkent\n"
)

func TestGenerate(t *testing.T) {
	// 1.0.0.0/24 AU; 1.0.1.0/24 mostly CN; 1.0.2.0-1.0.4.255 DE; 2001:db8::/47 RU but for a bit.
	v4 := head + "16777216,16777471,AU\n16777472,16777480,DE\n16777481,16777727,CN\n16777728,16778495,DE\n16778496,16778751,??\n"
	v6 := "2001:200::,2001:200:0:ffff:ffff:ffff:ffff:ffff,RU\n2001:200:1::,2001:200:1:0:ffff:ffff:ffff:ffff,DE\n2001:200:1:1::,2001:200:1:ffff:ffff:ffff:ffff:ffff,RU\n"
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := generate(b, []byte(v4), []byte(v6), []byte(zones)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same files gave different bytes")
	}
	db, err := maxminddb.OpenBytes(first.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Verify(); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"1.0.0.1": "AU", "1.0.1.1": "CN", "1.0.1.200": "CN", "1.0.2.0": "DE", "1.0.4.255": "DE", "1.0.5.1": "", "9.9.9.9": "",
		"2001:200::1": "RU", "2001:200:1::1": "RU", "2001:200:2::1": "",
	} {
		var got struct {
			Country struct {
				ISOCode string `maxminddb:"iso_code"`
			} `maxminddb:"country"`
			Location struct {
				Latitude float64 `maxminddb:"latitude"`
			} `maxminddb:"location"`
		}
		if err := db.Lookup(netip.MustParseAddr(addr)).Decode(&got); err != nil || got.Country.ISOCode != want {
			t.Errorf("%s: %q, %v; want %q", addr, got.Country.ISOCode, err, want)
		}
		if want == "AU" && got.Location.Latitude != -33.86 {
			t.Errorf("Sydney is at %v degrees", got.Location.Latitude)
		}
		if want == "RU" && got.Location.Latitude != 55.75 {
			t.Errorf("Moscow is at %v degrees", got.Location.Latitude)
		}
	}
}

func TestMistakesInSources(t *testing.T) {
	for _, c := range []struct{ name, v4, zones, want string }{
		{"no date", "1,2,CN\n", zones, "# Generated"},
		{"no range", head + "1,CN\n", zones, "first,last,country"},
		{"backwards", head + "2,1,CN\n", zones, "does not begin with a range"},
		{"no number", head + "1.2.3.4,5,CN\n", zones, "does not begin with a range"},
		{"unknown continent", head, "XX\t+3114+12128\tAsia/Nowhere\n" + zones, "continent of XX"},
		{"city gone", head, "CN\t+3114+12128\tAsia/Shanghai\n", "is not there"},
		{"coordinates", head, "CN\t+311+12128\tAsia/Shanghai\n", "degrees and minutes"},
	} {
		err := generate(&bytes.Buffer{}, []byte(c.v4), nil, []byte(c.zones))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}
