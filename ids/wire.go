package ids

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/homing-im/homing/region"
)

// Paths of the protocol in the package comment.
const (
	pathClaim   = "/ids/v1/claim"
	pathResolve = "/ids/v1/resolve"
	pathAllot   = "/ids/v1/allot"
)

// headerWorld carries the version of the sender's world, on requests and answers.
const headerWorld = "Homing-World"

// maxBody bounds requests and answers, in bytes; the largest legal one is a
// fraction of it.
const maxBody = 4 << 10

type claimRequest struct {
	Handle string     `json:"handle"`
	Owner  region.UIN `json:"owner"`
}

type resolveRequest struct {
	Handle string `json:"handle"`
}

type allotRequest struct {
	Key  string    `json:"key"`
	N    int       `json:"n"`
	Home region.ID `json:"home,omitempty"`
}

// errorBody is an error as the protocol spells it.
type errorBody struct {
	Code      region.Kind `json:"code"`
	Name      string      `json:"name"`
	Message   string      `json:"message"`
	Hint      string      `json:"hint,omitempty"`
	Retryable bool        `json:"retryable"`
}

var statusOf = map[region.Kind]int{
	region.BadInput: http.StatusBadRequest, region.Unauthenticated: http.StatusUnauthorized,
	region.Forbidden: http.StatusForbidden, region.NotFound: http.StatusNotFound,
	region.Conflict: http.StatusConflict, region.WrongRegion: http.StatusMisdirectedRequest,
	region.Unavailable: http.StatusServiceUnavailable, region.Overloaded: http.StatusTooManyRequests,
	region.TooLarge: http.StatusRequestEntityTooLarge, region.Unsupported: http.StatusNotImplemented,
}

func writeError(w http.ResponseWriter, err error) {
	b := errorBody{Code: region.KindOf(err), Message: "internal error", Hint: "ask the operator of ids"}
	if e := (*region.Error)(nil); errors.As(err, &e) {
		b.Message, b.Hint = e.Message, e.Hint
	}
	b.Name, b.Retryable = b.Code.String(), b.Code.Retryable()
	status, ok := statusOf[b.Code]
	if !ok {
		status = http.StatusInternalServerError
	}
	writeJSON(w, status, b)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller went away: nobody to tell
}

// readBody reads a whole body. Errors: region.BadInput, region.TooLarge.
func readBody(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return nil, region.Errorf(region.BadInput, "the body ended early").WithCause(err)
	}
	if len(b) > maxBody {
		return nil, region.Errorf(region.TooLarge, "the body is over %d bytes", maxBody)
	}
	return b, nil
}

// readRequest reads one JSON value strictly: no unknown field, nothing behind
// it. A caller's misspelt field is then an error and not a default.
//
// Errors: region.BadInput, region.TooLarge.
func readRequest(r io.Reader, v any) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return region.Errorf(region.BadInput, "the body is not what this call takes: %v", err).WithHint("see the package comment of ids")
	}
	if _, err := d.Token(); err != io.EOF {
		return region.Errorf(region.BadInput, "there is something behind the JSON value")
	}
	return nil
}

// readAnswer reads one JSON value and bears fields it does not know, which a
// newer service may send.
func readAnswer(r io.Reader, v any) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
