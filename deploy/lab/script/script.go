// Package script is the language of the lab's scenarios: text that says what
// happens to a world, and what has to come of it.
//
//	# a comment; the first line of them is the scenario's title
//	queue sh kafka                        sh's sync queue is Apache Kafka
//	people c-sh home sh 10 every 200ms    ten users of sh, where site c-sh is
//
//	do traffic on                         now
//	at 3s do link sh hk cut               three seconds after the last step that had no "at"
//	when acked 100 within 20s             wait until so many more are acknowledged
//	do failover sh hk
//	| world 2: hk acts for sh, ...        what that step has to have said
//	expect rto < 10s                      fail unless it is so
//	do check                              every scenario ends with it
//
// queue and people stand first. Lines with a bar are the expected trace of the
// step above them; what varies from run to run is never in a trace. The
// lab's README.md lists what can be said. A mistake is an error with file
// and line; nothing is guessed, and nothing unknown is skipped.
package script

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/homing-im/homing/deploy/lab/wan"
)

// Scenario is a text that was read.
type Scenario struct {
	Name   string
	Title  string
	Kafka  []string // regions
	People []People
	Steps  []*Step
	lines  []string
}

// People are some users of a home at a site.
type People struct {
	Site, Home string
	Count      int
	Every      time.Duration
}

// Verb is what kind of step it is.
type Verb string

// The verbs.
const (
	Do     Verb = "do"
	When   Verb = "when"   // wait, at most Within
	Expect Verb = "expect" // a fact, now
)

// Step is one line after the first ones.
type Step struct {
	Line   int
	Text   string
	Timed  bool          // has "at"
	At     time.Duration // after the last step without
	Verb   Verb
	What   string   // first word after the verb
	Words  []string // the others
	Within time.Duration
	Limit  time.Duration // of a fact with "<"
	Change wan.Change    // of link
	Trace  []string
}

// World is what a scenario may name.
type World struct {
	Sites   []string // all of them
	Regions []string
	Clients []string // sites for people
	Members []string // sites with processes that can die, beside regions
}

const (
	maxPeople   = 200
	maxDuration = 10 * time.Minute
)

// Parse reads a scenario. Errors begin with name and line.
func Parse(name string, r io.Reader, w World) (*Scenario, error) {
	s := &Scenario{Name: name}
	p := parser{World: w, s: s}
	for sc := bufio.NewScanner(r); ; {
		if !sc.Scan() {
			if err := sc.Err(); err != nil {
				return nil, p.errorf("%v", err)
			}
			break
		}
		p.line++
		s.lines = append(s.lines, sc.Text())
		if err := p.read(strings.TrimSpace(sc.Text())); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, p.line, err)
		}
	}
	switch {
	case len(s.People) == 0:
		return nil, p.errorf("nobody is there: say people SITE home REGION COUNT every DURATION")
	case len(s.Steps) == 0 || s.Steps[len(s.Steps)-1].Text != "do check":
		return nil, p.errorf("the last step has to be: do check")
	}
	return s, nil
}

// parser is where reading stands.
type parser struct {
	World
	s    *Scenario
	line int
}

func (p *parser) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{p.s.Name, p.line}, args...)...)
}

func (p *parser) read(text string) error {
	words := strings.Fields(text)
	switch {
	case len(words) == 0:
		return nil
	case strings.HasPrefix(text, "#"):
		if p.s.Title == "" {
			p.s.Title = strings.TrimSpace(strings.TrimLeft(text, "#"))
		}
		return nil
	case strings.HasPrefix(text, "|"):
		if len(p.s.Steps) == 0 {
			return fmt.Errorf("a trace has to follow a step")
		}
		last := p.s.Steps[len(p.s.Steps)-1]
		last.Trace = append(last.Trace, strings.TrimSpace(strings.TrimPrefix(text, "|")))
		return nil
	case words[0] == "queue" || words[0] == "people":
		if len(p.s.Steps) > 0 {
			return fmt.Errorf("%s stands before the first step", words[0])
		}
		if words[0] == "queue" {
			return p.queue(words[1:])
		}
		return p.people(words[1:])
	}
	step, err := p.step(words)
	if err == nil {
		step.Line, step.Text = p.line, strings.Join(words, " ")
		p.s.Steps = append(p.s.Steps, step)
	}
	return err
}

func (p *parser) queue(words []string) error {
	if len(words) != 2 || words[1] != "kafka" {
		return fmt.Errorf("want: queue REGION kafka")
	}
	if slices.Contains(p.s.Kafka, words[0]) {
		return fmt.Errorf("the queue of %s was said before", words[0])
	}
	p.s.Kafka = append(p.s.Kafka, words[0])
	return p.one("region", words[0])
}

func (p *parser) people(words []string) error {
	if len(words) != 6 || words[1] != "home" || words[4] != "every" {
		return fmt.Errorf("want: people SITE home REGION COUNT every DURATION")
	}
	if err := p.one("place", words[0]); err != nil {
		return err
	}
	if err := p.one("region", words[2]); err != nil {
		return err
	}
	n, err := strconv.Atoi(words[3])
	if err != nil || n < 1 || n > maxPeople {
		return fmt.Errorf("%q: want a number of people from 1 to %d", words[3], maxPeople)
	}
	every, err := duration(words[5])
	if err != nil {
		return err
	}
	p.s.People = append(p.s.People, People{Site: words[0], Home: words[2], Count: n, Every: every})
	return nil
}

func duration(word string) (time.Duration, error) {
	d, err := time.ParseDuration(word)
	if err != nil || d <= 0 || d > maxDuration {
		return 0, fmt.Errorf("%q: want a duration up to %s, such as 500ms or 10s", word, maxDuration)
	}
	return d, nil
}

// Record returns the scenario's text with other traces.
func (s *Scenario) Record(trace map[*Step][]string) string {
	var b strings.Builder
	at := map[int]*Step{}
	for _, step := range s.Steps {
		at[step.Line] = step
	}
	for i, line := range s.lines {
		if strings.HasPrefix(strings.TrimSpace(line), "|") {
			continue
		}
		b.WriteString(line + "\n")
		if step := at[i+1]; step != nil {
			for _, t := range trace[step] {
				b.WriteString("| " + t + "\n")
			}
		}
	}
	return b.String()
}
