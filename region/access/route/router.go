package route

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/rpc"
	"github.com/homing-im/homing/region/wire"
)

const (
	// attemptTimeout is how long one instance has for a request, when others
	// could be asked: one that hangs must not use up the client's patience.
	attemptTimeout = 5 * time.Second
	probeTimeout   = time.Second
	probeTick      = 100 * time.Millisecond
	// roundPause is before everybody is asked again, when nobody could be: while
	// the only instance of a pool restarts, requests wait for it.
	roundPause = 50 * time.Millisecond
)

// Options configures a [Router]. Identity and Instances are required.
type Options struct {
	Identity  rpc.Identity
	Instances []Instance
	Rules     []Rule
	TLS       *tls.Config // nil is plain, for loopback

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics unregistered
}

// Router is a [access.Remote]: a logic that is several processes.
type Router struct {
	log       *slog.Logger
	table     *Table
	instances []*instance
	requests  *prometheus.CounterVec // by instance, result
	ejections *prometheus.CounterVec // by instance
	usable    *prometheus.GaugeVec   // by instance

	cancel context.CancelFunc
	tasks  sync.WaitGroup
}

var _ access.Remote = (*Router)(nil)

type instance struct {
	name   string
	client *rpc.Client

	mu     sync.Mutex
	health health
}

// New dials all instances; it waits for none.
func New(o Options) (*Router, error) {
	table, err := NewTable(o.Instances, o.Rules)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Router{
		log: o.Logger, table: table,
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_access_logic_requests_total", Help: "Requests sent to logic instances, by instance and result: answered, or retried elsewhere because it could not be asked (unsent) or did not answer (lost)."}, []string{"instance", "result"}),
		ejections: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homing_access_logic_ejections_total", Help: "Times a logic instance was ejected after repeated failures."}, []string{"instance"}),
		usable:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "homing_access_logic_usable_bool", Help: "Whether a logic instance is given requests: 0 while it is ejected."}, []string{"instance"}),
	}
	if o.Registerer != nil {
		for _, c := range []prometheus.Collector{r.requests, r.ejections, r.usable} {
			if err := o.Registerer.Register(c); err != nil {
				return nil, err
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	for _, i := range o.Instances {
		c, err := rpc.Dial(rpc.ClientOptions{Identity: o.Identity, Address: i.Address, TLS: o.TLS, Logger: o.Logger.With("instance", i.Name)})
		if err != nil {
			_ = r.Close()
			return nil, err
		}
		r.instances = append(r.instances, &instance{name: i.Name, client: c})
		r.usable.WithLabelValues(i.Name).Set(1)
	}
	r.tasks.Go(func() { r.probe(ctx) })
	return r, nil
}

// Close ends the connections. Requests under way are the caller's to end first.
func (r *Router) Close() error {
	r.cancel()
	r.tasks.Wait()
	var errs []error
	for _, i := range r.instances {
		errs = append(errs, i.client.Close())
	}
	return errors.Join(errs...)
}

// Ready blocks until an instance can be asked, or ctx ends.
func (r *Router) Ready(ctx context.Context) error {
	for {
		for _, i := range r.instances {
			if i.client.Up() {
				return nil
			}
		}
		if !sleep(ctx, roundPause) {
			return region.Errorf(region.Unavailable, "no logic instance can be reached").WithHint("start one").WithCause(ctx.Err())
		}
	}
}

// Usable says which instances are given requests now, by name.
func (r *Router) Usable() map[string]bool {
	all := map[string]bool{}
	for _, i := range r.instances {
		all[i.name] = i.client.Up() && !i.ejected()
	}
	return all
}

// Do implements [access.Remote].
func (r *Router) Do(ctx context.Context, m wire.Method, c core.Caller, request proto.Message) (proto.Message, error) {
	info, ok := wire.Lookup(m)
	if !ok || !m.IM() {
		return nil, region.Errorf(region.Unsupported, "no method %s", m)
	}
	raw, err := encode(request)
	if err != nil {
		return nil, err
	}
	body, err := encode(&v1.LogicCall{Caller: callerToProto(c), Request: raw})
	if err != nil {
		return nil, err
	}
	b, err := r.call(ctx, r.owner(c, request), c.ClientVersion, rpc.Method(m), body)
	if err != nil {
		return nil, err
	}
	answer := info.NewResponse()
	if err := proto.Unmarshal(b, answer); err != nil {
		return nil, malformed("logic's answer", err)
	}
	return answer, nil
}

// owner is whose requests meet in one process: the caller, or whom somebody
// without a ticket names; so a login is answered where its challenge was. Who
// names nobody goes anywhere.
func (r *Router) owner(c core.Caller, request proto.Message) region.UIN {
	if c.UIN != 0 {
		return c.UIN
	}
	if named, ok := request.(interface{ GetUin() uint64 }); ok && named.GetUin() != 0 {
		return region.UIN(named.GetUin())
	}
	return region.UIN(rand.Uint64())
}

// Authenticate implements [access.Remote]. Any instance can.
func (r *Router) Authenticate(ctx context.Context, ticket string) (core.Device, error) {
	body, err := encode(&v1.LogicAuthenticate{Ticket: ticket})
	if err != nil {
		return core.Device{}, err
	}
	b, err := r.call(ctx, region.UIN(rand.Uint64()), 0, methodAuthenticate, body)
	if err != nil {
		return core.Device{}, err
	}
	p := new(v1.LogicDevice)
	if err := proto.Unmarshal(b, p); err != nil {
		return core.Device{}, malformed("logic's answer", err)
	}
	return deviceFromProto(p)
}

// again says whether a request that ended in this error may be asked again
// elsewhere. It is the one place that decides: an answer is final; a request
// that got none may be repeated, begun or not, because every mutation carries
// an idempotency key.
func again(err error) bool { return !rpc.Answered(err) }

// call asks instances in order until one answers or ctx ends.
func (r *Router) call(ctx context.Context, u region.UIN, version uint32, m rpc.Method, body []byte) ([]byte, error) {
	order := r.table.Order(u, version)
	var last error
	for {
		for _, i := range r.candidates(order) {
			b, err := r.attempt(ctx, i, len(order) > 1, m, body)
			if err == nil || !again(err) {
				return b, err
			}
			last = err
			if ctx.Err() != nil {
				return nil, last
			}
		}
		if !sleep(ctx, roundPause) {
			return nil, last
		}
	}
}

// candidates are the instances to ask now, best first: those that are not
// ejected and have a connection; else those not ejected; else all.
func (r *Router) candidates(order []int) []*instance {
	var up, in, all []*instance
	for _, n := range order {
		i := r.instances[n]
		all = append(all, i)
		if !i.ejected() {
			in = append(in, i)
			if i.client.Up() {
				up = append(up, i)
			}
		}
	}
	switch {
	case len(up) > 0:
		return up
	case len(in) > 0:
		return in
	default:
		return all
	}
}

func (r *Router) attempt(ctx context.Context, i *instance, others bool, m rpc.Method, body []byte) ([]byte, error) {
	if others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
	}
	b, err := i.client.Call(ctx, m, body)
	switch {
	case err == nil || rpc.Answered(err):
		r.requests.WithLabelValues(i.name, "answered").Inc()
		r.succeeded(i)
	case errors.Is(ctx.Err(), context.Canceled):
		// The client went away: that says nothing about the instance.
	case rpc.Sent(err):
		r.requests.WithLabelValues(i.name, "lost").Inc()
		r.failed(i, err)
	default:
		// It says that it goes down, or it is down: the connection knows best when
		// it is back, so this does not eject.
		r.requests.WithLabelValues(i.name, "unsent").Inc()
	}
	return b, err
}

func (i *instance) ejected() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.health.ejected
}

func (r *Router) succeeded(i *instance) {
	i.mu.Lock()
	back := i.health.ejected
	i.health.succeeded()
	i.mu.Unlock()
	if back {
		r.usable.WithLabelValues(i.name).Set(1)
		r.log.Info("a logic instance is readmitted", "instance", i.name)
	}
}

func (r *Router) failed(i *instance, err error) {
	i.mu.Lock()
	out := i.health.failed(time.Now())
	i.mu.Unlock()
	if out {
		r.ejections.WithLabelValues(i.name).Inc()
		r.usable.WithLabelValues(i.name).Set(0)
		r.log.Warn("a logic instance is ejected", "instance", i.name, "error", err)
	}
}

// probe asks ejected instances whether they are back.
func (r *Router) probe(ctx context.Context) {
	for sleep(ctx, probeTick) {
		var probes sync.WaitGroup
		for _, i := range r.instances {
			i.mu.Lock()
			due := i.health.due(time.Now())
			i.mu.Unlock()
			if !due {
				continue
			}
			probes.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, probeTimeout)
				defer cancel()
				if _, err := i.client.Call(ctx, methodProbe, nil); err != nil && !rpc.Answered(err) {
					r.failed(i, err)
					return
				}
				r.succeeded(i)
			})
		}
		probes.Wait()
	}
}

// sleep is false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
