package node

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/deploy/test/kafkatest"
	"github.com/homing-im/homing/replicator"
)

// TestApacheKafkaSecure connects to a broker that wants TLS and a password, as a
// node's file says, and is refused without either.
func TestApacheKafkaSecure(t *testing.T) {
	if os.Getenv("HOMING_TEST_KAFKA") == "" {
		t.Skip("make test-kafka runs it")
	}
	if err := kafkatest.Available(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	put := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	authority := func(name string) pki.Files {
		t.Helper()
		f, err := pki.Ensure(filepath.Join(dir, name), []string{"kafka"}, []net.IP{net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	ours, theirs := authority("ours"), authority("theirs")
	key, err := os.ReadFile(ours.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := os.ReadFile(ours.Cert)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kafkatest.New("", kafkatest.Options{Brokers: 1, Secure: &kafkatest.Secure{
		Cert: put("broker.pem", string(key)+string(cert)), CA: ours.CA, User: "homing", Password: "correct-horse",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	put("right", "correct-horse\n")
	put("wrong", "battery-staple\n")

	try := func(section string) error {
		t.Helper()
		path := put("node.yaml", `name: sh-1
member: region sh
roles: [queue, region, replicator]
dir: state
key: key.pem
world: genesis.json
root: root.pub
kafka: `+section+"\n")
		cfg, err := ReadConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		open, err := cfg.Kafka.opener("sh", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		q, err := open("hk", c.SecureAddresses())
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := q.MakeTopics(ctx, 1, "t"); err != nil {
			return err
		}
		log := replicator.TopicPartition{Topic: "t"}
		// A topic just made may have no leader yet.
		for {
			_, err = q.Produce(ctx, []replicator.Run{{TopicPartition: log, Messages: []replicator.Message{{Key: []byte("k"), Value: []byte("v")}}}})
			if err == nil || ctx.Err() != nil {
				break
			}
		}
		if err != nil {
			return err
		}
		got, err := q.Fetch(ctx, []replicator.FetchAt{{TopicPartition: log, MaxBytes: 1 << 20}}, time.Second)
		if err == nil && (len(got) != 1 || len(got[0].Messages) == 0 || string(got[0].Messages[0].Value) != "v") {
			t.Errorf("fetched %+v", got)
		}
		return err
	}
	const user = "sasl: {user: homing, passwordFile: "
	trust := func(f pki.Files) string { return "tls: {ca: " + f.CA + "}, " }
	for section, want := range map[string]string{
		"{" + trust(ours) + user + "right}}":                                      "",
		"{regions: {hk: {" + trust(ours) + user + "right}}}}":                     "",
		"{" + trust(ours) + user + "wrong}}":                                      "SASL",
		"{" + trust(theirs) + user + "right}}":                                    "certificate",
		"{" + user + "right}}":                                                    "EOF",
		"{" + trust(ours) + user + "right}, regions: {hk: {" + user + "right}}}}": "EOF",
	} {
		err := try(section)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", section, err, want)
		}
	}
}

// A password that others may read is refused, and never shown.
func TestKafkaPasswordFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	for want, c := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"chmod 600":   {"secret\n", 0o640},
		"no password": {"\nsecret\n", 0o600},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := (&KafkaSASL{User: "homing", PasswordFile: path}).scram()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
