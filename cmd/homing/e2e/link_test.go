package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/region/worldfile"
	"github.com/homing-im/homing/replicator"
)

// outside returns an address of this machine that is not loopback.
func outside(t testing.TB) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

// TestLinkBeyondLoopback runs two regions whose admin listeners, and with them
// journal and worlds, are on a network, as the README of certificates says. The
// queue of one is never started, so that all it writes goes over the journal link.
func TestLinkBeyondLoopback(t *testing.T) {
	host := outside(t)
	d := &deployed{t: t, dir: t.TempDir(), nodes: map[string]*process{}}
	if err := os.CopyFS(d.dir, sub(t, "../../../deploy")); err != nil {
		t.Fatal(err)
	}
	admins := map[string]string{}
	edit(t, filepath.Join(d.dir, "world.yaml"), func(s string) string {
		for i, id := range []string{"sh", "hk"} {
			l, err := net.Listen("tcp", host+":0")
			if err != nil {
				t.Fatal(err)
			}
			admins[id] = l.Addr().String()
			_ = l.Close()
			s = strings.Replace(s, fmt.Sprintf("admin: 127.0.%d.1:7400", i+1), "admin: "+admins[id], 1)
		}
		return strings.Replace(s, "    witness: true ", "    witness: false ", 1) // two of three voters run
	})
	d.homing("world", "init", "--dir", "world", "--file", "world.yaml")
	members := map[string]string{"sh": "region sh", "hk": "region hk", "ca": "region ca", "hk-queue": "region hk", "ids-1": "ids ids-1"}
	for node, member := range members {
		d.homing("tls", "--dir", "world/tls", "--zone", "im.test", "--member", member, "--ip", host)
		cert := strings.Replace(member, " ", "-", 1)
		edit(t, filepath.Join(d.dir, "nodes", node+".yaml"), func(s string) string {
			return strings.NewReplacer("../tls/ca.pem", "../world/tls/ca.pem", "../tls/server.", "../world/tls/"+cert+".").Replace(s)
		})
	}
	d.homing("tls", "--dir", "world/tls", "--zone", "im.test", "--member", "operator")
	t.Cleanup(d.stop)
	for _, n := range []string{"sh", "hk", "hk-queue", "ids-1"} {
		d.start(n)
	}
	operator := &http.Client{Timeout: 10 * time.Second, Transport: pki.Caller(func() (string, error) { return filepath.Join(d.dir, "world"), nil })}
	defer operator.CloseIdleConnections()
	status := func(id string) (st observe.NodeStatus) {
		if code, b := get(operator, region.AdminURL(admins[id])+"/status"); code == 200 {
			_ = json.Unmarshal(b, &st)
		}
		return st
	}
	until(t, time.Minute, "both regions admit writes", func() bool {
		sh, hk := status("sh"), status("hk")
		return sh.Region != nil && sh.Region.Admitting && hk.Region != nil && hk.Region.Admitting
	})

	// What a user of sh writes reaches hk, whose only way to it is the link.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	user, err := client.Register(ctx, http.DefaultClient, "http://127.0.1.1:7200", "Alice", "test")
	if err != nil {
		t.Fatal(err)
	}
	ca := d.member(t, "ca", "ca")
	until(t, time.Minute, "hk has what the user wrote", func() bool {
		code, b := get(ca, region.AdminURL(admins["hk"])+"/positions")
		var all replicator.Positions
		if code != 200 || json.Unmarshal(b, &all) != nil {
			return false
		}
		at := region.PartitionOf(user.UIN, 8)
		for _, p := range all.Positions {
			if p.Origin == "sh" && p.Stream == "full" && p.Partition == at && p.Seq > 0 {
				return true
			}
		}
		return false
	})

	// Nobody else is let in.
	journal := admins["sh"] + "/journal?partition=0&stream=full&from=1"
	if code, b := get(ca, "https://"+journal); code != 200 {
		t.Errorf("a region of the world: %d %s", code, b)
	}
	plain := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	if code, _ := get(plain, "http://"+journal); code == 200 {
		t.Error("the journal is served without TLS")
	}
	naked := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if code, b := get(naked, "https://"+admins["sh"]+"/metrics"); code != 0 {
		t.Errorf("without a certificate: %d %s", code, b)
	}
	if code, b := get(d.member(t, "ca", "hk"), "https://"+journal); code != http.StatusUnauthorized || !strings.Contains(string(b), "it has to be for ca.region.im.test") {
		t.Errorf("with another region's certificate: %d %s", code, b)
	}
	if code, b := get(operator, "https://"+journal); code != http.StatusUnauthorized {
		t.Errorf("the operator's certificate alone: %d %s", code, b)
	}

	// The operator's commands come by it too, and worlds spread.
	edit(t, filepath.Join(d.dir, "world", "world.yaml"), func(s string) string { return strings.Replace(s, "ttl: 30 ", "ttl: 31 ", 1) })
	d.homing("world", "sign", "--dir", "world")
	push := d.command("world", "push", "--dir", "world")
	out, _ := push.CombinedOutput() // not every node of the file runs
	until(t, time.Minute, fmt.Sprintf("world 2 is in both regions: %s", out), func() bool { return status("sh").World == 2 && status("hk").World == 2 })
	if out, err := d.command("region", "report", "--dir", "world").CombinedOutput(); err != nil || !strings.Contains(string(out), "hk") {
		t.Errorf("report: %v\n%s", err, out)
	}

	// A node without a certificate of its own does not start.
	d.homing("tls", "--dir", "world/tls", "--zone", "im.test", "--ip", host)
	d.kill("hk")
	edit(t, filepath.Join(d.dir, "nodes", "hk.yaml"), func(s string) string { return strings.ReplaceAll(s, "world/tls/region-hk.", "world/tls/server.") })
	out, err = d.command("run", "-c", "nodes/hk.yaml").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `tls.cert is not for hk.region.im.test: homing tls`) {
		t.Errorf("a node with the certificate of the service: %v\n%s", err, out)
	}
	delete(d.nodes, "hk")
}

// member is a client that signs as one region and shows the certificate of another.
func (d *deployed) member(t *testing.T, as, certificate string) *http.Client {
	t.Helper()
	key, err := worldfile.ReadKey(filepath.Join(d.dir, "world", "keys", "region-"+as+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(d.dir, "world", "tls", "region-"+certificate)
	cert, err := tls.LoadX509KeyPair(at+".pem", at+".key")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pki.Pool(filepath.Join(d.dir, "world", "tls", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{DisableKeepAlives: true, DialTLSContext: peer.DialTLS(peer.ClientTLS(cert, pool), func() *region.View { return nil })}
	return &http.Client{Timeout: 10 * time.Second, Transport: peer.NewTransport(peer.Region(region.ID(as)), key, base)}
}

// get returns status and body of an answer; status 0 is no answer, and its reason.
func get(c *http.Client, url string) (int, []byte) {
	res, err := c.Get(url)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return res.StatusCode, b
}

// command runs homing where the world was deployed.
func (d *deployed) command(args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(bin, "homing"), args...)
	c.Dir = d.dir
	return c
}

func (d *deployed) homing(args ...string) {
	d.t.Helper()
	if out, err := d.command(args...).CombinedOutput(); err != nil {
		d.t.Fatalf("homing %v: %v\n%s", args, err, out)
	}
}

func edit(t testing.TB, file string, change func(string) string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	after := change(string(b))
	if after == string(b) {
		t.Fatalf("%s has nothing to change", file)
	}
	if err := os.WriteFile(file, []byte(after), 0o600); err != nil {
		t.Fatal(err)
	}
}
