package script

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/homing-im/homing/deploy/lab/wan"
)

// grammar says, for each verb, what can be said and which words follow:
// "region", "node" (a site with processes that can die), "count", "a|b" for one
// of two words, "..." for what the word alone knows, and "<" with a duration.
var grammar = map[Verb]map[string]string{
	Do: {
		"traffic":     "on|off",        // everybody sends, or pauses and waits for answers
		"link":        "...",           // lines: see package wan
		"kill":        "node",          // kill -9 of every process at a site
		"start":       "node",          // and again, with the state it had
		"lose-queue":  "region",        // its queue dies and comes back empty
		"kill-queue":  "region",        // its queue dies
		"start-queue": "region",        // and comes back with what it had
		"kill-broker": "region",        // one of its three Kafka brokers dies
		"switchover":  "region region", // home, and who shall act
		"failover":    "region region", // the same
		"failback":    "region",        // home
		"admin":       "...",           // homing with these arguments; the trace has exit status and last line
		"phones":      "place off|new", // switched off; thrown away, and everybody logs in on one without a memory
		"account":     "",              // as check, but what is missing may be in an open range of the newest report
		"check":       "",              // reads every inbox and judges
	},
	When: {
		"acked":     "count",         // so many more messages
		"served":    "region region", // home and by whom: everybody, since the last change
		"live":      "",              // every replay follows its origin; what is under way now may lack
		"caught-up": "",              // and lacks nothing, which takes a pause in the traffic
		"complete":  "region",        // nothing of the home's tail is missing where it is acting
		"gone":      "node",          // from every DNS node's answers
		"back":      "node",          // in them again
	},
	Expect: {
		"rto":        "<",         // 99 % of the home's connected users acted at the successor
		"refused":    "<",         // longest that a message of the home's users waited for its answer
		"serving":    "<",         // the successor had taken every partition over
		"open":       "all|none",  // partitions in which the report of the last change has an open range
		"split":      "some|none", // people of the home whom the region before acknowledged after the last change
		"excused":    "some|none", // what the last account found in open ranges only
		"gone":       "<",         // the last "when gone" took
		"redirected": "<",         // every DNS node answered with the successor, after its world was signed
	},
}

// step reads: [at D] do|when|expect WHAT WORDS... [within D] [< D]
func (p *parser) step(words []string) (*Step, error) {
	var err error
	st := &Step{}
	if words[0] == "at" {
		if len(words) < 3 {
			return nil, fmt.Errorf("want: at DURATION do WHAT")
		}
		st.Timed = true
		if st.At, err = duration(words[1]); err != nil {
			return nil, err
		}
		words = words[2:]
		if words[0] != string(Do) {
			return nil, fmt.Errorf("at DURATION goes with do, not %s", words[0])
		}
	}
	st.Verb = Verb(words[0])
	known, ok := grammar[st.Verb]
	if !ok {
		return nil, fmt.Errorf("%q begins no line: want queue, people, at, do, when, expect, | or #", words[0])
	}
	if len(words) < 2 {
		return nil, fmt.Errorf("%s what? %s", st.Verb, choices(known))
	}
	shape, ok := known[words[1]]
	if !ok {
		return nil, fmt.Errorf("%s does not know %q: want %s", st.Verb, words[1], choices(known))
	}
	st.What, st.Words = words[1], words[2:]
	if st.Verb == When {
		n := len(st.Words)
		if n < 2 || st.Words[n-2] != "within" {
			return nil, fmt.Errorf("when has to end with: within DURATION")
		}
		if st.Within, err = duration(st.Words[n-1]); err != nil {
			return nil, err
		}
		st.Words = st.Words[:n-2]
	}
	return st, p.follow(st, strings.Fields(shape))
}

func choices(m map[string]string) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

// follow checks the words after the first against what they have to be.
func (p *parser) follow(st *Step, shape []string) (err error) {
	switch {
	case st.What == "link":
		st.Change, err = wan.Parse(st.Words)
		for _, s := range slices.Concat(st.Change.From, st.Change.To) {
			if err == nil {
				err = p.one("site", string(s))
			}
		}
		return err
	case st.What == "admin":
		if len(st.Words) == 0 {
			return fmt.Errorf("want the arguments of homing")
		}
		return nil
	case slices.Equal(shape, []string{"<"}):
		if len(st.Words) != 2 || st.Words[0] != "<" {
			return fmt.Errorf("want: %s %s < DURATION", st.Verb, st.What)
		}
		st.Limit, err = duration(st.Words[1])
		return err
	case len(st.Words) != len(shape):
		return fmt.Errorf("%s %s takes %d words (%s), not %d", st.Verb, st.What, len(shape), strings.Join(shape, " "), len(st.Words))
	}
	for i, kind := range shape {
		if err := p.one(kind, st.Words[i]); err != nil {
			return err
		}
	}
	return nil
}

// one checks one word.
func (p *parser) one(kind, word string) error {
	var may []string
	switch kind {
	case "count":
		if n, err := strconv.Atoi(word); err != nil || n < 1 || n > 1_000_000 {
			return fmt.Errorf("%q: want a number from 1 to 1000000", word)
		}
		return nil
	case "region":
		may = p.Regions
	case "place":
		may = p.Clients
	case "site":
		may = p.Sites
	case "node":
		may = slices.Concat(p.Regions, p.Members)
	default:
		may = strings.Split(kind, "|")
	}
	if !slices.Contains(may, word) {
		return fmt.Errorf("%q: want one of %s", word, strings.Join(may, ", "))
	}
	return nil
}
