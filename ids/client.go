package ids

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/homing-im/homing/region"
)

// Defaults of a client.
const (
	// DefaultDeadline bounds a call whose context has no earlier deadline.
	DefaultDeadline = 5 * time.Second
	// DefaultAttempt bounds one HTTP request, so that a lost one is repeated
	// while the caller still waits.
	DefaultAttempt = 2 * time.Second
	// cacheSize is how many handles a client remembers: some 10 MB when full.
	cacheSize = 65536
	// cacheLife is how long. Handles never change hands today; should they ever
	// be released, their quarantine has to be longer than this.
	cacheLife = 10 * time.Minute
)

// Client asks the ids service. It repeats what is retryable until its deadline;
// every call is idempotent, so an attempt of unknown outcome is simply made
// again. It is safe for concurrent use and has no goroutine of its own.
type Client struct {
	url      string
	http     *http.Client
	deadline time.Duration
	attempt  time.Duration
	world    func() uint64
	now      func() time.Time
	cache    *lru.Cache[Handle, cached]
}

type cached struct {
	claimed Claimed
	until   time.Time
}

// ClientOption changes a default of a [Client].
type ClientOption func(*Client)

// WithDeadline sets the bound of a call, and of one attempt of it.
func WithDeadline(call, attempt time.Duration) ClientOption {
	return func(c *Client) { c.deadline, c.attempt = call, attempt }
}

// WithWorld tells the service the version of the caller's world, so that a
// service that is behind asks to be retried instead of refusing.
func WithWorld(version func() uint64) ClientOption {
	return func(c *Client) { c.world = version }
}

// NewClient makes a client of the service at a URL such as "http://host:port".
// The HTTP client signs: its transport is region/peer's.
func NewClient(url string, hc *http.Client, opts ...ClientOption) *Client {
	cache, err := lru.New[Handle, cached](cacheSize)
	if err != nil { // the size is a positive constant
		panic(err)
	}
	c := &Client{url: strings.TrimRight(url, "/"), http: hc, deadline: DefaultDeadline, attempt: DefaultAttempt, now: time.Now, cache: cache}
	if c.http == nil {
		c.http = http.DefaultClient
	}
	for _, o := range opts {
		o(c)
	}
	return c
}

// Claim gives the handle to the owner and makes it the primary one; claiming
// one's own again is no error. It blocks until the claim is durable.
//
// Errors: region.BadInput, region.Conflict when taken, region.Forbidden when
// the caller does not act for the owner, region.TooLarge when the owner has
// MaxHandles, region.Unavailable and region.Overloaded when the deadline passed
// first; the claim may have happened then, and repeating it is safe.
func (c *Client) Claim(ctx context.Context, handle string, owner region.UIN) error {
	h, err := ParseHandle(handle)
	if err != nil {
		return err
	}
	var a Claimed
	if err := c.call(ctx, pathClaim, claimRequest{Handle: string(h), Owner: owner}, &a); err != nil {
		return err
	}
	c.remember(a)
	return nil
}

// Resolve finds the owner of a handle.
//
// Errors: region.BadInput, region.NotFound, region.Unavailable and
// region.Overloaded when the deadline passed first.
func (c *Client) Resolve(ctx context.Context, handle string) (region.UIN, error) {
	a, err := c.Lookup(ctx, handle)
	return a.Owner, err
}

// Lookup is Resolve with the owner's primary handle beside the owner. The
// primary one may be as old as the cache, ten minutes.
func (c *Client) Lookup(ctx context.Context, handle string) (Claimed, error) {
	h, err := ParseHandle(handle)
	if err != nil {
		return Claimed{}, err
	}
	if e, ok := c.cache.Get(h); ok && c.now().Before(e.until) {
		return e.claimed, nil
	}
	var a Claimed
	if err := c.call(ctx, pathResolve, resolveRequest{Handle: string(h)}, &a); err != nil {
		return Claimed{}, err
	}
	c.remember(a)
	return a, nil
}

// Allot reserves n UINs in the caller's own segments, both ends included. The
// same key gives the same range; a region that restores its store has to use
// new keys.
//
// Errors: region.BadInput, region.TooLarge, region.Conflict when the key was
// used with another n, region.Forbidden when another region acts for the
// caller's home, region.Unavailable and region.Overloaded.
func (c *Client) Allot(ctx context.Context, key string, n int) (first, last region.UIN, err error) {
	return c.AllotFor(ctx, "", key, n)
}

// AllotFor is Allot in the segments of a home that the caller acts for.
func (c *Client) AllotFor(ctx context.Context, home region.ID, key string, n int) (first, last region.UIN, err error) {
	var a Range
	if err := c.call(ctx, pathAllot, allotRequest{Key: key, N: n, Home: home}, &a); err != nil {
		return 0, 0, err
	}
	if a.First == 0 || a.Last < a.First {
		return 0, 0, region.Errorf(region.Internal, "ids answered with the range %d to %d", a.First, a.Last)
	}
	return a.First, a.Last, nil
}

func (c *Client) remember(a Claimed) {
	c.cache.Add(a.Handle, cached{claimed: a, until: c.now().Add(cacheLife)})
}

// call makes attempts until one is answered for good or the deadline passes.
func (c *Client) call(ctx context.Context, path string, q, a any) error {
	body, err := json.Marshal(q)
	if err != nil {
		return region.Errorf(region.BadInput, "the request cannot be spelled").WithCause(err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.deadline)
	defer cancel()
	pause := 20 * time.Millisecond
	for {
		err := c.once(ctx, path, body, a)
		if err == nil || !region.KindOf(err).Retryable() {
			return err
		}
		// Half fixed, half random, so that callers who failed together do not
		// come back together.
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		pause = min(2*pause, time.Second)
	}
}

func (c *Client) once(ctx context.Context, path string, body []byte, a any) error {
	ctx, cancel := context.WithTimeout(ctx, c.attempt)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		return region.Errorf(region.Internal, "the address of ids, %q, is not a URL", c.url).WithCause(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if c.world != nil {
		r.Header.Set(headerWorld, strconv.FormatUint(c.world(), 10))
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return answered(resp)
	}
	if err := readAnswer(resp.Body, a); err != nil {
		return unreachable(err)
	}
	return nil
}

func unreachable(err error) error {
	return region.Errorf(region.Unavailable, "the ids service does not answer").WithHint("retry; handles and new users wait for it, all else goes on").WithCause(err)
}

// answered makes an error of an answer. One that is not the protocol's, from a
// proxy or from the signature check, is judged by its status.
func answered(resp *http.Response) error {
	var b errorBody
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && readAnswer(resp.Body, &b) == nil && b.Code != 0 {
		return &region.Error{Kind: b.Code, Message: b.Message, Hint: b.Hint}
	}
	for kind, status := range statusOf {
		if status == resp.StatusCode {
			return region.Errorf(kind, "the ids service answered %s", resp.Status).WithHint("are the node's key and clock right?")
		}
	}
	return unreachable(errors.New(resp.Status))
}
