package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// admin is the port for people and Prometheus: /metrics, /healthz, /readyz, /loglevel, /debug/pprof.
// It has no authentication, so it listens on loopback unless the configuration says otherwise.
type admin struct {
	ln     net.Listener
	server *http.Server
	ended  chan struct{} // closed when Serve has returned
}

// newAdmin listens on address. ready tells why the process is not ready, nil when it is.
func newAdmin(address string, metrics prometheus.Gatherer, level *slog.LevelVar, ready func() error) (*admin, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /loglevel", func(w http.ResponseWriter, _ *http.Request) { writeLevel(w, level) })
	mux.HandleFunc("PUT /loglevel", func(w http.ResponseWriter, r *http.Request) { putLevel(w, r, level) })
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	a := &admin{ln: ln, server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		a.server.Serve(ln) // returns when stop closes it
	}()
	return a, nil
}

func (a *admin) addr() string { return a.ln.Addr().String() }

func (a *admin) stop(ctx context.Context) error {
	err := a.server.Shutdown(ctx)
	if err != nil { // a profile is being taken: it is cut off
		err = a.server.Close()
	}
	<-a.ended
	return err
}

func writeLevel(w io.Writer, level *slog.LevelVar) {
	json.NewEncoder(w).Encode(map[string]slog.Level{"level": level.Level()})
}

// putLevel takes debug, info, warn or error as the body, plain or as {"level": "debug"}.
func putLevel(w http.ResponseWriter, r *http.Request, level *slog.LevelVar) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 256))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var in struct{ Level slog.Level }
	if json.Unmarshal(body, &in) != nil {
		if err := in.Level.UnmarshalText(bytes.TrimSpace(body)); err != nil {
			http.Error(w, "want debug, info, warn or error", http.StatusBadRequest)
			return
		}
	}
	level.Set(in.Level)
	writeLevel(w, level)
}

// checkAdminAddress refuses an address that is not loopback, unless that is allowed.
func checkAdminAddress(address string, allowRemote bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ip := net.ParseIP(host)
	if allowRemote || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return errors.New("is not loopback, and the admin port has no authentication: set admin.allow_remote to open it all the same")
}
