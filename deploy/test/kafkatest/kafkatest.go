// Package kafkatest runs real Apache Kafka clusters for tests, in KRaft mode,
// from the jars that pom.xml names and Maven keeps in ~/.m2.
//
// It guarantees that brokers listen on loopback only, keep their files below
// one directory, die with the tests however those end, and are gone with their
// files after Stop.
package kafkatest

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/deploy/test/child"
)

// patience is how long a broker may take to start, on a busy machine.
const patience = 2 * time.Minute

// Options of a cluster.
type Options struct {
	Brokers int // each is a controller as well
	// Settings are added to every broker's.
	Settings map[string]string
	// Secure adds a listener with TLS and SCRAM; nil is none.
	Secure *Secure
	// Host is where brokers listen, on ports from [HostPort]; "" is 127.0.0.1, on
	// ports that are free.
	Host string
	// Start starts a broker, and closes the channel when it has ended; nil is
	// child.Start. Another network namespace needs another.
	Start func(*exec.Cmd) (exited chan struct{}, err error)
}

// HostPort is the plain listener of the first broker of [Options.Host], and the
// next ones those of the others.
const HostPort = 7500

// Secure is a listener that wants a password, over TLS.
type Secure struct {
	Cert     string // PEM file: certificate and PKCS#8 key of every broker, for 127.0.0.1
	CA       string // PEM file
	User     string
	Password string
}

// Cluster is brokers that know each other.
type Cluster struct {
	Dir     string
	Brokers []*Broker

	options   Options
	classpath string
	id        string
}

// Broker is one process.
type Broker struct {
	cluster    *Cluster
	number     int // from 1
	plain      string
	controller string
	secure     string
	cmd        *exec.Cmd // nil while it does not run
	exited     chan struct{}
	log        string // file
}

// New makes a cluster's directory below parent ("" is the system's for temporary
// files) and formats the brokers' storage. None runs yet.
func New(parent string, o Options) (_ *Cluster, err error) {
	c := &Cluster{options: o}
	if c.classpath, err = Classpath(); err != nil {
		return nil, err
	}
	if c.Dir, err = os.MkdirTemp(parent, "homing-kafka-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(c.Dir)
		}
	}()
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	id[0] &= 0x7f // Kafka's tools take an ID that begins with a dash for an option
	c.id = base64.RawURLEncoding.EncodeToString(id[:])
	for i := range o.Brokers {
		b := &Broker{cluster: c, number: i + 1}
		for j, a := range []*string{&b.plain, &b.controller, &b.secure} {
			if *a = child.Address(); o.Host != "" {
				*a = net.JoinHostPort(o.Host, fmt.Sprint(HostPort+20*j+i))
			}
		}
		c.Brokers = append(c.Brokers, b)
	}
	return c, c.each((*Broker).format)
}

// each does something with all brokers at once.
func (c *Cluster) each(f func(*Broker) error) error {
	errs := make([]error, len(c.Brokers))
	var group sync.WaitGroup
	for i, b := range c.Brokers {
		group.Go(func() { errs[i] = f(b) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func (b *Broker) dir() string { return filepath.Join(b.cluster.Dir, fmt.Sprint("broker-", b.number)) }

// Logs is the directory that holds the broker's logs, one directory in it per
// partition.
func (b *Broker) Logs() string { return filepath.Join(b.dir(), "logs") }

func (b *Broker) settings() string { return filepath.Join(b.dir(), "server.properties") }

// format writes the broker's settings and makes its storage.
func (b *Broker) format() error {
	if err := os.Mkdir(b.dir(), 0o700); err != nil {
		return err
	}
	var lines []string
	all := b.properties()
	for _, k := range slices.Sorted(maps.Keys(all)) {
		lines = append(lines, k+"="+all[k])
	}
	if err := os.WriteFile(b.settings(), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	args := []string{"format", "-t", b.cluster.id, "-c", b.settings()}
	if s := b.cluster.options.Secure; s != nil {
		args = append(args, "--add-scram", fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", s.User, s.Password))
	}
	if out, err := b.cluster.Java("kafka.tools.StorageTool", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("formatting the storage of broker %d: %w: %s", b.number, err, out)
	}
	return nil
}

// properties are the broker's settings: small, quick to notice what died, and
// never on one disk only.
func (b *Broker) properties() map[string]string {
	c := b.cluster
	var voters []string
	for _, v := range c.Brokers {
		voters = append(voters, fmt.Sprint(v.number, "@", v.controller))
	}
	copies := min(len(c.Brokers), 3)
	p := map[string]string{
		"process.roles": "broker,controller", "node.id": fmt.Sprint(b.number), "controller.quorum.voters": strings.Join(voters, ","),
		"listeners":                      "PLAINTEXT://" + b.plain + ",CONTROLLER://" + b.controller,
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
		"inter.broker.listener.name":     "PLAINTEXT", "controller.listener.names": "CONTROLLER",
		"log.dirs":                   b.Logs(),
		"default.replication.factor": fmt.Sprint(copies), "min.insync.replicas": fmt.Sprint(copies/2 + 1),
		"offsets.topic.replication.factor": fmt.Sprint(copies), "offsets.topic.num.partitions": "4",
		"auto.create.topics.enable": "false", "unclean.leader.election.enable": "false",
		"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500", "replica.lag.time.max.ms": "5000",
		"controller.quorum.election.timeout.ms": "1000", "controller.quorum.fetch.timeout.ms": "2000",
		"log.initial.task.delay.ms": "500", "log.retention.check.interval.ms": "500", "log.segment.delete.delay.ms": "0",
		"num.network.threads": "2", "num.io.threads": "3", "background.threads": "2", "log.cleaner.dedupe.buffer.size": "2097152",
		"group.initial.rebalance.delay.ms": "0",
	}
	if s := c.options.Secure; s != nil {
		p["listeners"] += ",SECURE://" + b.secure
		p["sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
		p["ssl.keystore.type"], p["ssl.keystore.location"] = "PEM", s.Cert
		p["ssl.truststore.type"], p["ssl.truststore.location"] = "PEM", s.CA
		p["listener.name.secure.scram-sha-512.sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	}
	maps.Copy(p, c.options.Settings)
	return p
}

// Java prepares one of Kafka's programs, with a small heap and quick to start.
// Start it with child.Start.
func (c *Cluster) Java(class string, args ...string) *exec.Cmd {
	cmd := exec.Command("java", append([]string{
		"-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto",
		"-Dorg.apache.logging.log4j.level=INFO", "-cp", c.classpath, class,
	}, args...)...)
	cmd.Dir = c.Dir
	return cmd
}

// Launch begins the broker's process; Wait waits for it. Brokers that were
// killed together have to be launched together: one alone elects nobody.
func (b *Broker) Launch() error {
	b.log = filepath.Join(b.dir(), "output")
	out, err := os.Create(b.log)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	b.cmd = b.cluster.Java("kafka.Kafka", b.settings())
	b.cmd.Stdout, b.cmd.Stderr = out, out
	start := b.cluster.options.Start
	if start == nil {
		start = child.Start
	}
	b.exited, err = start(b.cmd)
	return err
}

// started is what a broker prints when it serves.
const started = "Kafka Server started"

// Wait waits until the broker serves.
func (b *Broker) Wait() error {
	for deadline := time.Now().Add(patience); ; {
		text, _ := os.ReadFile(b.log)
		if strings.Contains(string(text), started) {
			return nil
		}
		select {
		case <-b.exited:
		case <-time.After(20 * time.Millisecond):
			if time.Now().Before(deadline) {
				continue
			}
		}
		return fmt.Errorf("broker %d did not start: %s", b.number, text[max(0, len(text)-4000):])
	}
}

// Start runs all brokers that do not run, and waits until they serve.
func (c *Cluster) Start() error {
	var waiting []*Broker
	for _, b := range c.Brokers {
		if b.cmd == nil {
			if err := b.Launch(); err != nil {
				return err
			}
			waiting = append(waiting, b)
		}
	}
	for _, b := range waiting {
		if err := b.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// Kill ends the broker as a power cut does, and waits until it is gone. What it
// had not synced stays in the page cache, though.
func (b *Broker) Kill() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Kill()
	<-b.exited
	b.cmd = nil
}

// PID is that of the broker's process, for its processor time.
func (b *Broker) PID() int { return b.cmd.Process.Pid }

// Addresses are the brokers' plain listeners, separated by commas.
func (c *Cluster) Addresses() string {
	return c.join(func(b *Broker) string { return b.plain })
}

// SecureAddresses are the listeners that want TLS and a password.
func (c *Cluster) SecureAddresses() string {
	return c.join(func(b *Broker) string { return b.secure })
}

func (c *Cluster) join(address func(*Broker) string) string {
	var all []string
	for _, b := range c.Brokers {
		all = append(all, address(b))
	}
	return strings.Join(all, ",")
}

// Stop ends all brokers and removes their files.
func (c *Cluster) Stop() error {
	for _, b := range c.Brokers {
		b.Kill()
	}
	return os.RemoveAll(c.Dir)
}
