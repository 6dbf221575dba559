package journal_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

var update = flag.Bool("update", false, "write testdata/batches.golden anew")

// golden are batches of every kind of record, whose bytes never change.
func golden() []*journal.Batch {
	sum := func(b byte) (s journal.Sum) {
		for i := range s {
			s[i] = b + byte(i)
		}
		return s
	}
	term := region.Term{Counter: 3, Raised: region.ShortHash{0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8}}
	all := []*journal.Batch{
		{
			Origin: "sh", Partition: 5, Incarnation: 1, Owner: 1000001, Home: "sh", Epoch: region.Epoch{Moves: 1, Term: term}, UnixMilli: 1_700_000_000_123,
			Records: []journal.Record{
				{Seq: 1, Kind: journal.KindRow, Row: &journal.RowRecord{Table: 1, Row: []byte{}, Version: 1, Value: []byte("account"), After: sum(0x10)}},
				{Seq: 2, Kind: journal.KindRow, Row: &journal.RowRecord{Table: 101, Row: []byte("inbox"), Version: 300, Deleted: true, Before: sum(0x20), After: sum(0x30)}},
				{Seq: 3, Kind: journal.KindCommand, Command: &journal.Command{ID: journal.CommandID(sum(0x40)), To: "hk", Target: 2000001, Method: 1, Payload: bytes.Repeat([]byte("message "), 20)}},
			},
		},
		{
			Origin: "sh", Partition: 5, Incarnation: 1, UnixMilli: -1,
			Records: []journal.Record{
				{Seq: 4, Kind: journal.KindWatermark, Watermark: &journal.Watermark{Home: "sh", SharedSum: sum(0x50), SharedRows: 1, OwnSum: sum(0x60), OwnRows: 1 << 40}},
				{Seq: 5, Kind: journal.KindPosition, Position: &journal.Position{Origin: "hk", Stream: "to-sh", Partition: 5, Incarnation: 2, Seq: 77, Chain: sum(0x70), UnixMilli: 1_700_000_000_000}},
				{Seq: 6, Kind: journal.KindTerm, Term: &journal.TermRecord{Home: "hk", Term: term, What: 2}},
			},
		},
		{
			Origin: "sh", Partition: 5, Incarnation: 1, Owner: 1000001, Home: "sh", Epoch: region.Epoch{Moves: 1, Term: term}, UnixMilli: 1_700_000_000_124,
			Records: []journal.Record{
				{Seq: 7, Kind: 99, Opaque: []byte("of a newer version")},
				{Seq: 8, Kind: 200, Opaque: []byte("and in every region")},
				{Seq: 9, Kind: 127},
			},
		},
	}
	heads := map[journal.Stream]journal.StreamHead{}
	for _, b := range all {
		link(b, heads)
	}
	return all
}

// TestGolden holds the layout: what is on somebody's disk must stay readable.
func TestGolden(t *testing.T) {
	const file = "testdata/batches.golden"
	var got strings.Builder
	for _, b := range golden() {
		got.WriteString("whole " + hex.EncodeToString(journal.Encode(b)) + "\n")
		for _, l := range b.Links {
			f := journal.Filter(b, l.Stream)
			got.WriteString(journal.Topic(b.Origin, l.Stream) + " " + string(journal.QueueKey(f)) + " " + hex.EncodeToString(journal.Encode(f)) + "\n")
		}
	}
	e := region.Epoch{Moves: 1, Term: region.Term{Counter: 2, Raised: region.ShortHash{1, 2, 3, 4, 5, 6, 7, 8}}}
	row, tomb := journal.RowSum(1000001, 101, []byte("inbox"), 7, e, false, []byte("value")), journal.RowSum(1000001, 101, []byte("inbox"), 8, e, true, nil)
	both := row.Add(tomb)
	for _, s := range []journal.Sum{row, tomb, both, both.Sub(row)} {
		got.WriteString("sum " + hex.EncodeToString(s[:]) + "\n")
	}
	if both.Sub(row) != tomb {
		t.Error("sums do not subtract")
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Fatalf("the bytes of batches changed:\n%s\nwant\n%s", got.String(), want)
	}
	for line := range strings.Lines(string(want)) {
		fields := strings.Fields(line)
		if fields[0] == "sum" {
			continue
		}
		data, err := hex.DecodeString(fields[len(fields)-1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := journal.Decode(data); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestRowSumTellsApart(t *testing.T) {
	e := region.Epoch{Moves: 1, Term: region.Term{Counter: 2}}
	seen := map[journal.Sum]string{}
	for name, s := range map[string]journal.Sum{
		"it":                     journal.RowSum(1, 101, []byte("ab"), 1, e, false, []byte("cd")),
		"owner":                  journal.RowSum(2, 101, []byte("ab"), 1, e, false, []byte("cd")),
		"table":                  journal.RowSum(1, 102, []byte("ab"), 1, e, false, []byte("cd")),
		"row":                    journal.RowSum(1, 101, []byte("abc"), 1, e, false, []byte("d")),
		"version":                journal.RowSum(1, 101, []byte("ab"), 2, e, false, []byte("cd")),
		"epoch":                  journal.RowSum(1, 101, []byte("ab"), 1, region.Epoch{Moves: 2}, false, []byte("cd")),
		"empty":                  journal.RowSum(1, 101, []byte("ab"), 1, e, false, nil),
		"deleted":                journal.RowSum(1, 101, []byte("ab"), 1, e, true, nil),
		"longer than the buffer": journal.RowSum(1, 101, []byte("ab"), 1, e, false, make([]byte, 4096)),
	} {
		if other, ok := seen[s]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[s] = name
	}
}
