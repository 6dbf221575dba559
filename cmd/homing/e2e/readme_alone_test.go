package e2e

import (
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// The stand-alone DNS server of deploy/, and the README's commands on it.
func TestREADMEAloneDNS(t *testing.T) {
	server := exec.Command(bin+"/homing", "run", "-c", "deploy/dns-only.yaml")
	server.Dir = "../../.."
	out := &lines{}
	server.Stdout, server.Stderr = out, out
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Wait() }()
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			_ = server.Process.Kill()
			<-done
		}
	})
	for end := time.Now().Add(30 * time.Second); ; {
		conn, err := net.Dial("tcp", "127.0.0.1:5390") // the last listener
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case err := <-done:
			stopped = true
			t.Fatalf("it ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatal("it does not listen")
		}
	}
	w := &world{t: t, home: t.TempDir()}
	for _, command := range readmeBlocks(t, "run with the stand-alone DNS") {
		check(t, w, command)
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	stopped = true
	if err := <-done; err != nil {
		t.Errorf("it stopped with %v", err)
	}
}
