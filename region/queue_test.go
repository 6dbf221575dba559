package region

import (
	"fmt"
	"testing"
)

func TestQueueGroups(t *testing.T) {
	for queue, want := range map[string]string{
		"":                         "[]",
		"a:9092":                   "[a:9092]",
		"a:9092,b:9092":            "[a:9092,b:9092]",
		"a:9092, b:9092 ; c:9092 ": "[a:9092,b:9092 c:9092]",
	} {
		r := Region{Queue: queue}
		if got := fmt.Sprint(r.QueueGroups()); got != want {
			t.Errorf("%q is %s, want %s", queue, got, want)
		}
	}
}
