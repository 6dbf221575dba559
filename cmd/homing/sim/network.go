package sim

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/replicator"
)

// linked says whether what one region sends reaches another.
func (r *run) linked(from, to region.ID) bool { return from == to || !r.cut[[2]region.ID{from, to}] }

// road carries a region's requests to the others' admin listeners.
type road struct {
	r    *run
	from region.ID
}

var errUnreachable = errors.New("unreachable")

// RoundTrip implements http.RoundTripper.
func (n road) RoundTrip(q *http.Request) (*http.Response, error) {
	to, ok := n.r.byAdmin[q.URL.Host]
	if !ok {
		return nil, errUnreachable
	}
	lost := n.r.weather && n.r.dice.hits("ask"+string(n.from)+string(to.id), 20)
	if !to.up || lost || !n.r.linked(n.from, to.id) || !n.r.linked(to.id, n.from) {
		return nil, errUnreachable
	}
	w := &answer{status: http.StatusOK, header: http.Header{}}
	to.journal.ServeHTTP(w, q)
	return &http.Response{StatusCode: w.status, Status: http.StatusText(w.status), Header: w.header, Request: q,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len())}, nil
}

// answer is an http.ResponseWriter.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func sortedLogs(logs map[replicator.TopicPartition]*topicLog) []replicator.TopicPartition {
	return slices.SortedFunc(maps.Keys(logs), func(a, b replicator.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}
