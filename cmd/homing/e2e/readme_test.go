package e2e

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/demo"
)

// expected is what each command of the README has to print. A command that is
// not here fails the test, so that none goes unchecked.
var expected = map[string]string{
	`dig @127.0.0.1 -p 7453 long.demo.test +subnet=223.5.5.0/24`:                            `(?s)CLIENT-SUBNET: 223\.5\.5\.0/24/24.*long\.demo\.test\.\s+10\s+IN\s+A\s+127\.20\.1\.1`,
	`dig @127.0.0.1 -p 7453 u-1000001.v-80003.long.demo.test`:                               `u-1000001\.v-80003\.long\.demo\.test\.\s+\d+\s+IN\s+A\s+127\.20\.`,
	`curl 'http://127.0.0.1:7480/d?host=long.demo.test&uin=1000001&ver=80003&ip=223.5.5.5'`: `"pops":\["pop-1".*"home":"sh","acting":"sh"`,
	`homing explain --uin 1000001 --ip 223.5.5.5 --version 80003`:                           `(?s)home .*UIN 1000001 is at home in sh.*old-clients-direct.*telecom-pop.*canary.*built-in.*pop-1`,
	`homing user register --region sh --nickname Alice`:                                     `Alice is UIN 1000001, at home in sh`,
	`homing user register --region hk --nickname Bob`:                                       `Bob is UIN 2000001, at home in hk`,
	`homing id claim alice --as Alice`:                                                      `@alice is Alice, UIN 1000001`,
	`homing id claim bob --as Bob`:                                                          `@bob is Bob, UIN 2000001`,
	`homing send --as Alice --to @bob "hello from Shanghai"`:                                `stored in sh through pop-\d as [0-9a-f]{32}`,
	`homing sync --as Bob`:                                                                  `@alice to @bob: hello from Shanghai`,
	`homing chat --as Alice --ip 8.8.8.8`:                                                   `(?s)connected to sh through pop-5.*\d+\s+stored`,
	`homing status`:                                                                         `(?s)sh\s+Shanghai\s+sh\s+1\s+yes.*RPO [0-9.]+ s / \d+ records, hk, RTO never drilled.*pop-6\s+New York\s+ca\s+yes.*sh -> hk\s+full`,
	`homing context list`:                                                                   `\* demo\s+running`,
	`homing region switchover sh --to hk --dry-run`:                                         `(?s)plan: switchover of sh, from sh to hk.*nothing is lost`,
	`homing region switchover sh --to hk --yes`:                                             `(?s)hk serves every partition of sh.*nothing was lost`,
	`homing region failback sh --yes`:                                                       `(?s)sh serves every partition of sh.*nothing was lost`,
	`dig @127.0.0.1 -p 5300 www.geo.example.com +subnet=88.198.0.0/16`:                      `(?s)CLIENT-SUBNET: 88\.198\.0\.0/16/\d+.*www\.geo\.example\.com\.\s+30\s+IN\s+A\s+192\.0\.2\.10\n`,
	`dig @127.0.0.1 -p 5300 www.geo.example.com AAAA +subnet=99.230.0.0/16`:                 `www\.geo\.example\.com\.\s+30\s+IN\s+AAAA\s+2001:db8:2::10\n`,
	`dig @127.0.0.1 -p 5300 shop.geo.example.com +subnet=126.0.0.0/8`:                       `(?s)IN\s+CNAME\s+www\.geo\.example\.com\..*\s20\s+IN\s+A\s+198\.51\.100\.10\n`,
	`dig @127.0.0.1 -p 5300 geo.example.com MX`:                                             `IN\s+MX\s+10 mail\.geo\.example\.com\.`,
	`curl 'http://127.0.0.1:5380/explain?service=www&ip=126.0.0.1&format=text'`:             `(?s)client 126\.0\.0\.1/32 in JP.*japan-by-new-york answers.*1\. nyc 198\.51\.100\.10\n`,
	`curl http://127.0.0.1:5390/status`:                                                     `"ready":true.*"hkg":true`,
	`homing demo --scenario switchover --port-base 8400`:                                    `all \d+ steps ok`,
	`homing demo --scenario disaster --port-base 8400`:                                      `all \d+ steps ok`,
	`homing demo --scenario hello --port-base 8400`:                                         `all \d+ steps ok`,
	`! homing demo --scenario hello --port-base 8400 --sabotage replay`:                     `FAIL  inbox`,
	`curl -H 'Content-Type: application/json' -d '{"nickname":"Carol","device_key":"'$(head -c 32 /dev/urandom | base64)'","platform":"curl","idempotency_key":"first"}' http://127.10.3.1:7401/homing.v1.IM/Register`: `"uin":"3000001".*"ticket":"v4\.public\..*"region":"ca"`,
}

// typed is what a person types into a command that asks.
var typed = map[string]string{
	`homing chat --as Alice --ip 8.8.8.8`: "(sleep 2; echo '@bob hello from a pretended place'; sleep 2; echo /quit) | ",
}

// readmeBlocks returns the commands of the README's blocks after a marker.
func readmeBlocks(t *testing.T, marker string) []string {
	t.Helper()
	b, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?s)<!-- "+marker+" -->\n```sh\n(.*?)```").FindAllStringSubmatch(string(b), -1) {
		out = append(out, strings.Split(strings.TrimSpace(m[1]), "\n")...)
	}
	if len(out) == 0 {
		t.Fatalf("the README has no block marked %q", marker)
	}
	return out
}

func TestREADMETour(t *testing.T) {
	w := &world{t: t, home: t.TempDir(), base: demo.DefaultPortBase} // the README's ports are the default ones
	w.dir = w.home + "/demo"
	w.start()
	t.Cleanup(func() { w.stop() })
	for _, command := range readmeBlocks(t, "run with the demo") {
		check(t, w, command)
	}
}

func TestREADMEAlone(t *testing.T) {
	w := &world{t: t, home: t.TempDir()}
	for _, command := range readmeBlocks(t, "run alone") {
		check(t, w, command)
	}
}

func check(t *testing.T, w *world, command string) {
	t.Helper()
	want, ok := expected[command]
	if !ok {
		t.Errorf("the README's command has no expectation in this test: %s", command)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	// A message crosses two regions in the time it takes: the reader asks again.
	var out string
	for range 20 {
		var err error
		out, err = w.sh(ctx, typed[command]+command)
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
			return
		}
		if regexp.MustCompile(want).MatchString(out) {
			t.Logf("$ %s\n%s", command, out)
			return
		}
		if !strings.HasPrefix(command, "homing sync") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("$ %s\nwant a match of %s, got\n%s", command, want, out)
}
