package acting

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/succession"
)

// write puts the outcome into DIR/reports.
func (o *Operator) write(out *Outcome) error {
	dir := filepath.Join(o.Dir.Dir, "reports")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if out.File == "" {
		out.File = filepath.Join(dir, fmt.Sprintf("%s-%s-%s.json", out.Began.UTC().Format("20060102-150405.000"), out.Plan.Kind, out.Plan.Home))
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out.File, append(b, '\n'), 0o600)
}

// newest returns the report of the last change of a home under an operator's
// directory; nil when there is none that can be read.
func newest(dir string, home region.ID) *Outcome {
	files, err := filepath.Glob(filepath.Join(dir, "reports", "*-"+string(home)+".json"))
	if err != nil {
		return nil
	}
	slices.Sort(files) // names begin with the time
	for _, f := range slices.Backward(files) {
		b, err := os.ReadFile(f)
		out := &Outcome{File: f}
		if err == nil && json.Unmarshal(b, out) == nil && out.Plan != nil && out.Plan.Home == home {
			return out
		}
	}
	return nil
}

// Settle brings the last report of a home up to date with what the region that
// acts says now: ranges that were open close when the region before returns. It
// says whether the file changed.
func (o *Operator) Settle(now succession.HomeReport) (bool, error) {
	out := newest(o.Dir.Dir, now.Home)
	if out == nil || out.Plan.To != now.Acting || out.Home.Term != now.Term && out.Home.Term != (region.Term{}) {
		return false, nil
	}
	before, err1 := json.Marshal(out.Home)
	after, err2 := json.Marshal(now)
	if err := errors.Join(err1, err2); err != nil || string(before) == string(after) {
		return false, err
	}
	out.Home = now
	return true, o.write(out)
}

// Drilled says how long the last change of who acts for a home took, as the
// reports in an operator's directory have it.
func Drilled(dir string, home region.ID, now time.Time) string {
	out := newest(dir, home)
	if out == nil || out.Serving == 0 {
		return "RTO never drilled"
	}
	age := now.Sub(out.Began)
	when := "today"
	if days := int(age.Hours() / 24); days > 0 {
		when = fmt.Sprintf("%d days ago", days)
	}
	return fmt.Sprintf("RTO %.1f s (%s, %s)", out.Serving, out.Plan.Kind, when)
}
