package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/homing-im/homing/cmd/homing/observe"
)

// admin is a node's listener for operators and for the other nodes. It is the
// only one that serves profiles. What changes anything is signed by a member
// (region/peer) or by the operator (worlds); the rest is for reading.
type admin struct {
	mux    *http.ServeMux
	server *http.Server
	done   chan struct{}
}

func newAdmin(reg *prometheus.Registry, status func() observe.NodeStatus, l *line, logger *slog.Logger) *admin {
	a := &admin{mux: http.NewServeMux(), done: make(chan struct{})}
	a.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	a.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	a.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		st := status()
		if !st.Ready {
			http.Error(w, "not ready: "+st.NotReady, http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n"))
		for _, without := range st.Degraded {
			_, _ = w.Write([]byte("degraded: " + without + "\n"))
		}
	})
	a.mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(status())
	})
	a.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	a.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	a.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	a.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	a.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.server = &http.Server{
		Handler:           l.into(a.mux),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	return a
}

func (a *admin) serve(l net.Listener) {
	go func() {
		defer close(a.done)
		_ = a.server.Serve(l)
	}()
}

// close stops the listener and waits for it; requests under way get until ctx
// ends.
func (a *admin) close(ctx context.Context) error {
	err := a.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, a.server.Close())
	}
	<-a.done
	return err
}
