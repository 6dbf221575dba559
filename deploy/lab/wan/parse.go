package wan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Change is a command to lines, as text:
//
//	A B SETTING...     both directions between A and B
//	A > B SETTING...   the direction from A to B only
//
// A and B are sites between commas, or "*" for all. Settings are delay=80ms,
// jitter=10ms, loss=5%, rate=10mbit (or kbit; 0 is unlimited), cut, and mend,
// which undoes cut alone.
type Change struct {
	From, To []Site // nil is all
	OneWay   bool
	settings []func(*Shape)
}

// maxDelay bounds delay and jitter: more is no line, but a typing error.
const maxDelay = 10 * time.Second

// Parse reads a command. It does not know which sites there are.
func Parse(words []string) (Change, error) {
	var c Change
	var err error
	if len(words) < 2 {
		return c, fmt.Errorf("want two sites and what their line does, such as: sh hk delay=80ms")
	}
	if c.From, err = sites(words[0]); err != nil {
		return c, err
	}
	words = words[1:]
	if words[0] == ">" {
		c.OneWay, words = true, words[1:]
	}
	if len(words) == 0 {
		return c, fmt.Errorf("the second site is missing")
	}
	if c.To, err = sites(words[0]); err != nil {
		return c, err
	}
	if len(words) == 1 {
		return c, fmt.Errorf("say what the line does: delay=80ms, jitter=10ms, loss=5%%, rate=10mbit, cut or mend")
	}
	for _, word := range words[1:] {
		set, err := setting(word)
		if err != nil {
			return c, err
		}
		c.settings = append(c.settings, set)
	}
	return c, nil
}

func sites(word string) ([]Site, error) {
	if word == "*" {
		return nil, nil
	}
	var out []Site
	for name := range strings.SplitSeq(word, ",") {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return nil, fmt.Errorf("%q is no site", name)
		}
		out = append(out, Site(name))
	}
	return out, nil
}

func setting(word string) (func(*Shape), error) {
	name, value, has := strings.Cut(word, "=")
	wrong := func(want string) error { return fmt.Errorf("%s: want %s", word, want) }
	switch name {
	case "cut", "mend":
		if has {
			return nil, wrong(name + " alone")
		}
		return func(s *Shape) { s.Cut = name == "cut" }, nil
	case "delay", "jitter":
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 || d > maxDelay {
			return nil, wrong(fmt.Sprintf("a duration of at most %s, such as %s=80ms", maxDelay, name))
		}
		if name == "delay" {
			return func(s *Shape) { s.Delay = d }, nil
		}
		return func(s *Shape) { s.Jitter = d }, nil
	case "loss":
		digits, percent := strings.CutSuffix(value, "%")
		share, err := strconv.ParseFloat(digits, 64)
		if !percent || err != nil || !(share >= 0 && share <= 100) {
			return nil, wrong("a percentage, such as loss=5%")
		}
		return func(s *Shape) { s.Loss = share / 100 }, nil
	case "rate":
		for _, unit := range []struct {
			suffix string
			bits   int64
		}{{"kbit", 1e3}, {"mbit", 1e6}, {"0", 0}} {
			digits, ok := strings.CutSuffix(value, unit.suffix)
			if unit.bits == 0 && ok && digits == "" {
				return func(s *Shape) { s.Rate = 0 }, nil
			}
			if n, err := strconv.ParseUint(digits, 10, 20); ok && unit.bits > 0 && err == nil && n > 0 {
				return func(s *Shape) { s.Rate = int64(n) * unit.bits }, nil
			}
		}
		return nil, wrong("bits per second, such as rate=10mbit or rate=512kbit, or rate=0")
	}
	return nil, fmt.Errorf("a line has no setting %q: want delay, jitter, loss, rate, cut or mend", name)
}

// Apply makes the change and says how many directions it concerned. Unknown
// sites are an error, and then nothing is changed.
func (w *WAN) Apply(c Change) (int, error) {
	all := w.Sites()
	for _, s := range slices.Concat(c.From, c.To) {
		if !slices.Contains(all, s) {
			return 0, fmt.Errorf("there is no site %s", s)
		}
	}
	pick := func(named []Site) []Site {
		if named == nil {
			return all
		}
		return named
	}
	var which []direction
	add := func(d direction) {
		if d.from != d.to && !slices.Contains(which, d) {
			which = append(which, d)
		}
	}
	for _, from := range pick(c.From) {
		for _, to := range pick(c.To) {
			add(direction{from, to})
			if !c.OneWay {
				add(direction{to, from})
			}
		}
	}
	for _, d := range which {
		if err := w.Change(d.from, d.to, func(s *Shape) {
			for _, set := range c.settings {
				set(s)
			}
		}); err != nil {
			return 0, err
		}
	}
	return len(which), nil
}
