package wire

import (
	"net/http"

	"connectrpc.com/connect"

	"github.com/homing-im/homing/region"
)

// Refuse answers an HTTP request with an error, as the protocol of the request
// spells it (Connect, gRPC or gRPC-Web; Connect for any other), with the Error as
// its detail: see "Errors".
func Refuse(w http.ResponseWriter, r *http.Request, err error, worldVersion uint64) {
	errs := connect.NewErrorWriter()
	if region.KindOf(err) == region.TooLarge && !errs.IsSupported(r) {
		w = WithStatus(w, http.StatusRequestEntityTooLarge)
	}
	_ = errs.Write(w, r, ToConnect(err, worldVersion)) // a client that left hears nothing
}

// WithStatus makes a writer that answers with one status, whatever it is told.
func WithStatus(w http.ResponseWriter, status int) http.ResponseWriter {
	return fixedStatus{w, status}
}

type fixedStatus struct {
	http.ResponseWriter
	status int
}

func (f fixedStatus) WriteHeader(int) { f.ResponseWriter.WriteHeader(f.status) }

func (f fixedStatus) Unwrap() http.ResponseWriter { return f.ResponseWriter }
