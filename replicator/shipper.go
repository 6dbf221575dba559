package replicator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

const (
	// shipBytes is about how much of the journal one produce carries.
	shipBytes = 1 << 20

	// shipEvery is how soon after a produce the partition's next may follow, unless
	// the journal has more than fits into one. A request costs a broker as much as
	// hundreds of messages, and under steady writing there would be one for every
	// few of them; what comes after a pause still leaves at once.
	shipEvery = 5 * time.Millisecond
)

// shippedStreams returns the streams that self puts into its queue under a
// world: commands for homes it acts for run here, and never leave.
func shippedStreams(v *region.View, self region.ID) []journal.Stream {
	streams := []journal.Stream{journal.Full, journal.Shared}
	if v == nil {
		return streams
	}
	for _, r := range v.World.Regions {
		if r.Acting.Region != self {
			streams = append(streams, journal.StreamTo(r.ID))
		}
	}
	return streams
}

// Shipper copies the region's own journal to its queue: one goroutine per
// partition, one produce in flight in each, all streams of the partition in it.
// A failure halts the partition until the queue takes the very same records, or
// the next queue group does.
type Shipper struct {
	gate
	source  Source
	queues  []Queue
	view    func() *region.View
	changed func() <-chan struct{}
	oldest  func(p region.Partition, s journal.Stream) uint64
	metrics *metrics
	logger  *slog.Logger
	now     func() time.Time
	lanes   []*lane
	cancel  context.CancelFunc
	group   sync.WaitGroup

	mu         sync.Mutex
	partitions []ShipState
	made       []map[string]bool // per queue group: topics known to exist
}

// ShipState is how the shipping of a partition stands.
type ShipState struct {
	Partition region.Partition `json:"partition"`
	Shipped   uint64           `json:"shipped"` // last sequence that the full stream in the queue has
	Head      uint64           `json:"head"`    // last sequence of the journal
	Group     int              `json:"group"`   // queue group that is written to; 0 is the preferred one
	Error     string           `json:"error,omitempty"`
}

func newShipper(o *Options, queues []Queue, oldest func(region.Partition, journal.Stream) uint64, m *metrics) *Shipper {
	s := &Shipper{source: o.Store, queues: queues, view: o.View, changed: o.Changed, oldest: oldest, metrics: m,
		logger: o.Logger.With("part", "shipper"), now: o.Now, made: make([]map[string]bool, len(queues)),
		partitions: make([]ShipState, o.Store.Partitions())}
	for i := range s.made {
		s.made[i] = make(map[string]bool)
	}
	for p := range s.partitions {
		s.partitions[p].Partition = region.Partition(p)
		s.lanes = append(s.lanes, &lane{shipper: s, partition: region.Partition(p), sent: make(map[journal.Stream]mark),
			choice: groupChoice{groups: len(queues), patience: o.GroupPatience, again: o.GroupReturn}})
	}
	return s
}

func (s *Shipper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	for _, l := range s.lanes {
		s.group.Go(func() { l.run(ctx) })
	}
}

// Status returns one entry per partition.
func (s *Shipper) Status() []ShipState {
	s.mu.Lock()
	out := append([]ShipState(nil), s.partitions...)
	s.mu.Unlock()
	for i := range out {
		out[i].Head = s.source.Head(out[i].Partition).Next - 1
	}
	return out
}

func (s *Shipper) close() {
	s.cancel()
	s.group.Wait()
}

// makeTopics makes the topics of the streams in a queue group, once.
func (s *Shipper) makeTopics(ctx context.Context, group int, streams []journal.Stream) error {
	s.mu.Lock()
	defer s.mu.Unlock() // the other partitions need the same topics: let them wait
	var missing []string
	for _, st := range streams {
		if t := journal.Topic(s.source.Region(), st); !s.made[group][t] {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := s.queues[group].MakeTopics(ctx, s.source.Partitions(), missing...); err != nil {
		return err
	}
	for _, t := range missing {
		s.made[group][t] = true
	}
	return nil
}

// forgetTopics has the topics made again: the queue says one is gone.
func (s *Shipper) forgetTopics(group int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.made[group])
}

// lane ships one partition.
type lane struct {
	shipper   *Shipper
	partition region.Partition
	choice    groupChoice
	sent      map[journal.Stream]mark // only of streams whose place in the chosen group is known
	retry     backOff
}

// mark is where the shipping of a stream stands.
type mark struct {
	last uint64 // everything up to here is in the log
	end  int64  // offset that the log gives to the next message
}

func (l *lane) run(ctx context.Context) {
	s := l.shipper
	for s.pass(ctx) {
		grown, world := s.source.Changed(l.partition), s.changed()
		again, pause := l.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case pause > 0:
			if !wait(ctx, pause) {
				return
			}
		case again:
		default:
			select {
			case <-grown:
			case <-world:
			case <-ctx.Done():
				return
			}
		}
	}
}

// step ships once. There is more to do at once, or after a pause, or else when
// the journal grows or the world changes.
func (l *lane) step(ctx context.Context) (again bool, pause time.Duration) {
	s := l.shipper
	sent, more, err := l.ship(ctx)
	if ctx.Err() != nil {
		return false, 0
	}
	if err != nil {
		l.failed(err)
		return true, l.retry.next()
	}
	if l.retry.last != 0 {
		s.logger.Info("shipping again", "partition", l.partition, "group", l.choice.now)
		l.retry.reset()
	}
	if l.choice.worked(s.now()) {
		l.moved("trying the preferred queue group again")
		return true, 0
	}
	if sent && !more {
		return true, shipEvery
	}
	return sent, 0
}

// failed notes an error. The place in every log is unknown then: the request may
// have been written, or the queue may come back with another past.
func (l *lane) failed(err error) {
	s := l.shipper
	s.metrics.shipErrors.Inc()
	clear(l.sent)
	if errors.Is(err, ErrNoTopic) {
		s.forgetTopics(l.choice.now)
	}
	s.mu.Lock()
	s.partitions[l.partition].Error = err.Error()
	s.mu.Unlock()
	if l.retry.last == 0 {
		s.logger.Warn("shipping halted; trying again", "partition", l.partition, "group", l.choice.now, "error", err)
	}
	if l.choice.failed(s.now()) {
		l.moved("shipping to another queue group")
	}
}

// moved goes on in the group that was chosen, from where the stream stands there.
func (l *lane) moved(why string) {
	s := l.shipper
	clear(l.sent)
	s.metrics.groupChanges.Inc()
	s.logger.Warn(why, "partition", l.partition, "group", l.choice.now)
	s.mu.Lock()
	s.partitions[l.partition].Group = l.choice.now
	s.mu.Unlock()
}

func (l *lane) queue() Queue { return l.shipper.queues[l.choice.now] }

// ship sends one request with what each stream has to send, and says whether it
// sent any, and whether there was more than fits into one.
func (l *lane) ship(ctx context.Context) (sent, more bool, err error) {
	s := l.shipper
	streams := shippedStreams(s.view(), s.source.Region())
	if err := s.makeTopics(ctx, l.choice.now, streams); err != nil {
		return false, false, err
	}
	head := s.source.Head(l.partition)
	next := make(map[journal.Stream]mark, len(streams))
	var runs []Run
	for _, st := range streams {
		m, ok := l.sent[st]
		if !ok {
			if m, err = l.place(ctx, st); err != nil {
				return false, false, err
			}
			l.sent[st] = m
		}
		if lastIn(&head, st) > m.last {
			batches, err := s.source.Journal(ctx, l.partition, st, max(m.last+1, head.First), shipBytes)
			if err != nil {
				return false, false, err
			}
			if len(batches) > 0 {
				runs = append(runs, l.messages(st, batches))
				m.last = batches[len(batches)-1].Last()
				more = more || m.last < lastIn(&head, st)
			}
		}
		next[st] = m
	}
	if len(runs) > 0 {
		base, err := l.queue().Produce(ctx, runs)
		if err != nil {
			return false, false, err
		}
		if err := l.landed(ctx, runs, base, next); err != nil {
			return false, false, err
		}
	}
	l.sent = next
	l.shipped(next[journal.Full].last)
	return len(runs) > 0, more, nil
}

func lastIn(h *store.Head, s journal.Stream) uint64 {
	for i := range h.Streams {
		if h.Streams[i].Stream == s {
			return h.Streams[i].Last
		}
	}
	return 0
}

func (l *lane) messages(st journal.Stream, batches []*journal.Batch) Run {
	run := Run{TopicPartition: l.log(st), Messages: make([]Message, len(batches))}
	for i, b := range batches {
		run.Messages[i] = message(b)
	}
	l.shipper.metrics.shipped.WithLabelValues(string(st)).Add(float64(len(batches)))
	return run
}

// landed checks that the messages were appended where the log ended before. A
// log that is shorter than it was lost its end while nobody looked; its stream
// then goes on from what was left.
func (l *lane) landed(ctx context.Context, runs []Run, base []int64, next map[journal.Stream]mark) error {
	for i, r := range runs {
		for st, m := range next {
			if journal.Topic(l.shipper.source.Region(), st) != r.Topic {
				continue
			}
			end := base[i] + int64(len(r.Messages))
			if base[i] < m.end {
				l.shipper.metrics.resets.Inc()
				left, err := l.placeAt(ctx, st, base[i])
				if err != nil {
					return err
				}
				m = left
				l.shipper.logger.Warn("the queue came back shorter; shipping again", "partition", l.partition, "stream", st, "after", m.last)
			}
			m.end = end
			next[st] = m
		}
	}
	return nil
}

// place finds where a stream stands in the queue, by its last message.
func (l *lane) place(ctx context.Context, st journal.Stream) (mark, error) {
	bounds, err := l.queue().Bounds(ctx, l.log(st))
	if err != nil {
		return mark{}, err
	}
	if bounds.Start == bounds.End {
		return mark{last: l.shipper.oldest(l.partition, st) - 1, end: bounds.End}, nil
	}
	return l.placeAt(ctx, st, bounds.End)
}

// placeAt finds where a stream stands at an offset, by the message before it.
// When there is none, or it is nothing of this journal, shipping begins with the
// oldest record that somebody may need.
func (l *lane) placeAt(ctx context.Context, st journal.Stream, end int64) (mark, error) {
	s := l.shipper
	oldest := s.oldest(l.partition, st)
	if end == 0 {
		return mark{last: oldest - 1, end: end}, nil
	}
	got, err := l.queue().Fetch(ctx, []FetchAt{{TopicPartition: l.log(st), Offset: end - 1, MaxBytes: 1}}, time.Second)
	if err != nil {
		return mark{}, err
	}
	if len(got) == 1 && got[0].Err == nil && len(got[0].Messages) > 0 {
		last, ok := lastOf(got[0].Messages[0].Key)
		if ok && last < s.source.Head(l.partition).Next {
			return mark{last: max(last, oldest-1), end: end}, nil
		}
	}
	s.logger.Warn("the queue does not end with this journal's records; shipping again from the oldest record needed",
		"partition", l.partition, "stream", st, "from", oldest)
	return mark{last: oldest - 1, end: end}, nil
}

func (l *lane) log(st journal.Stream) TopicPartition {
	return spot{l.shipper.source.Region(), st, l.partition}.log()
}

func (l *lane) shipped(last uint64) {
	s := l.shipper
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions[l.partition].Shipped = last
	s.partitions[l.partition].Error = ""
}
