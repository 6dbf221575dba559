package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// until repeats a command, which takes its time itself, until its output has what
// is wanted: what was asked of another region shows a moment later.
func (w *world) until(command, want string) string {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		out := w.must(command)
		if strings.Contains(out, want) {
			return out
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: want %q in\n%s", command, want, out)
		}
	}
}

// Everything of a user from the command line, between three regions of a running
// demo: a group and who runs it, contacts, devices, the account, and its end.
func TestRecordsFromTheCommandLine(t *testing.T) {
	w := startDemo(t)
	uin := map[string]string{}
	number := regexp.MustCompile(`UIN (\d+)`)
	for name, in := range map[string]string{"Alice": "sh", "Bob": "hk", "Carol": "ca"} {
		uin[name] = number.FindStringSubmatch(w.must("homing user register --region " + in + " --nickname " + name))[1]
	}
	g := number.FindStringSubmatch(w.must("homing group create " + uin["Bob"] + " --name 'Book club' --as Alice"))[1]
	w.must("homing group role " + g + " " + uin["Bob"] + " --role admin --as Alice")
	w.until("homing group show "+g+" --as Bob", "admin    "+uin["Bob"])
	w.must("homing group set " + g + " --announcement 'on Tuesday' --join approval --as Bob")
	w.until("homing group show "+g+" --as Alice", "announcement: on Tuesday")
	w.must("homing group join " + g + " --as Carol")
	w.until("homing sync --all --as Bob", "join-request by "+uin["Carol"])
	w.must("homing group add " + g + " " + uin["Carol"] + " --as Bob")
	w.until("homing group show "+g+" --as Carol", "member   "+uin["Carol"])
	w.must("homing group leave " + g + " --as Alice")
	w.until("homing group show "+g+" --as Carol", "owner    "+uin["Bob"])
	if out := w.refused("homing group role " + g + " " + uin["Carol"] + " --role king --as Bob"); !strings.Contains(out, "want admin, member, owner") {
		t.Errorf("%q", out)
	}

	w.must("homing contact ask " + uin["Bob"] + " --text 'it is me' --as Alice")
	w.until("homing contact list --as Bob", "asks to be a contact")
	w.must("homing contact accept " + uin["Alice"] + " --as Bob")
	w.until("homing contact list --as Alice", "you are contacts")
	w.must("homing contact block " + uin["Alice"] + " --as Bob")
	w.until("homing contact list --as Bob", "blocked")

	w.must("homing account set --about 'sings in the choir' --as Alice")
	w.must("homing account setting theme=dark --as Alice")
	w.must("homing device add --profile laptop --as Alice")
	w.until("homing account show --as laptop", "setting theme = dark")
	devices := w.must("homing device list --as laptop")
	var phone string
	for line := range strings.Lines(devices) {
		if !strings.Contains(line, "this one") {
			phone = strings.Fields(line)[0]
		}
	}
	w.must("homing device revoke " + phone + " --as laptop")
	w.refused("homing sync --as Alice")

	w.until("homing queue dead list --region sh", "no dead letters")
	w.must("homing account erase --as laptop --sent --yes")
	w.refused("homing sync --as laptop")
	if out := w.refused("homing account erase --uin " + uin["Carol"] + " --region hk --yes"); !strings.Contains(out, "region ca acts for") {
		t.Errorf("%q", out)
	}
	w.must("homing account erase --uin " + uin["Carol"] + " --region ca --yes")
	w.refused("homing sync --as Carol")
	out := w.until("homing group show "+g+" --as Bob", "1 members")
	if !strings.Contains(out, "owner    "+uin["Bob"]) {
		t.Errorf("%s", out)
	}
}
