package node

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/kafka"
)

// Kafka says how to connect to the sync queues, whose addresses the world has.
// The zero value is for embedded brokers on loopback.
type Kafka struct {
	KafkaAccess `yaml:",inline"`
	// Replication is how many copies the topics that this region makes have:
	// 3 on three brokers (with min.insync.replicas=2). Default 1.
	Replication int `yaml:"replication,omitempty"`
	// Compression of what this region puts into its queue, the embedded one too:
	// zstd, the default, or none. What is read is understood either way.
	Compression string `yaml:"compression,omitempty"`
	// Regions are those whose clusters want something else than is said above, by
	// their ID.
	Regions map[string]KafkaAccess `yaml:"regions,omitempty"`
}

// KafkaAccess is what brokers ask for.
type KafkaAccess struct {
	TLS  *KafkaTLS  `yaml:"tls,omitempty"`
	SASL *KafkaSASL `yaml:"sasl,omitempty"`
}

// KafkaTLS is TLS to brokers, each of which has to show a certificate for its
// own name.
type KafkaTLS struct {
	CA string `yaml:"ca"` // PEM file of who vouches for the brokers
	// Cert and Key are PEM files, for brokers that want to know who connects.
	Cert string `yaml:"cert,omitempty"`
	Key  string `yaml:"key,omitempty"`
}

// KafkaSASL is a user with a password, by SCRAM.
type KafkaSASL struct {
	Mechanism    string `yaml:"mechanism,omitempty"` // SCRAM-SHA-512, the default, or SCRAM-SHA-256
	User         string `yaml:"user"`
	PasswordFile string `yaml:"passwordFile"` // mode 0600; its first line
}

// each calls f with every set of access and the name of its field.
func (k *Kafka) each(f func(name string, a *KafkaAccess) error) error {
	if err := f("kafka", &k.KafkaAccess); err != nil {
		return err
	}
	for id, a := range k.Regions {
		if err := f("kafka.regions."+id, &a); err != nil {
			return err
		}
		k.Regions[id] = a
	}
	return nil
}

// resolve makes the paths relative to the file's folder.
func (k *Kafka) resolve(dir string) {
	_ = k.each(func(_ string, a *KafkaAccess) error {
		var paths []*string
		if a.TLS != nil {
			paths = append(paths, &a.TLS.CA, &a.TLS.Cert, &a.TLS.Key)
		}
		if a.SASL != nil {
			paths = append(paths, &a.SASL.PasswordFile)
		}
		for _, p := range paths {
			if *p != "" && !filepath.IsAbs(*p) {
				*p = filepath.Join(dir, *p)
			}
		}
		return nil
	})
}

func (k *Kafka) validate(c *Config) error {
	if (k.TLS != nil || k.SASL != nil || k.Replication != 0 || k.Compression != "" || k.Regions != nil) && !c.Has(RoleReplicator) {
		return wrongf("kafka", "kafka is of role replicator, which this node has not")
	}
	if k.Replication < 0 || k.Replication > 7 {
		return wrongf("kafka.replication", "kafka.replication %d: want 1 to 7, 3 on three brokers", k.Replication)
	}
	if k.Compression != "" && k.Compression != "zstd" && k.Compression != "none" {
		return wrongf("kafka.compression", "kafka.compression %q: want zstd or none", k.Compression)
	}
	return k.each(func(name string, a *KafkaAccess) error {
		if t := a.TLS; t != nil {
			switch {
			case t.CA == "":
				return wrongf(name+".tls", "%s.tls needs ca: a PEM file of who vouches for the brokers", name)
			case (t.Cert == "") != (t.Key == ""):
				return wrongf(name+".tls", "%s.tls.cert and %s.tls.key go together", name, name)
			}
		}
		if s := a.SASL; s != nil {
			switch strings.ToUpper(s.Mechanism) {
			case "", "SCRAM-SHA-512", "SCRAM-SHA-256":
			default:
				return wrongf(name+".sasl.mechanism", "%s.sasl.mechanism %q: want SCRAM-SHA-512 or SCRAM-SHA-256", name, s.Mechanism)
			}
			if s.User == "" || s.PasswordFile == "" {
				return wrongf(name+".sasl", "%s.sasl needs user and passwordFile", name)
			}
		}
		return nil
	})
}

// opener returns how the replicator of a region opens queues. It reads the files
// once: a new password takes a restart.
func (k *Kafka) opener(self region.ID, logger *slog.Logger) (func(of region.ID, brokers string) (replicator.Queue, error), error) {
	all := map[string]kafka.Options{}
	err := k.each(func(name string, a *KafkaAccess) (err error) {
		o := kafka.Options{ClientID: "homing-" + string(self), Replication: k.Replication, Zstd: k.Compression != "none", Logger: logger}
		if o.TLS, err = a.TLS.config(); err != nil {
			return fmt.Errorf("%s.tls: %w", name, err)
		}
		if o.SCRAM, err = a.SASL.scram(); err != nil {
			return fmt.Errorf("%s.sasl: %w", name, err)
		}
		all[name] = o
		return nil
	})
	if err != nil {
		return nil, err
	}
	return func(of region.ID, brokers string) (replicator.Queue, error) {
		o, ok := all["kafka.regions."+string(of)]
		if !ok {
			o = all["kafka"]
		}
		o.Brokers = []string{brokers}
		return kafka.New(o)
	}, nil
}

func (t *KafkaTLS) config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	pool, err := pki.Pool(t.CA)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if t.Cert != "" {
		cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

func (s *KafkaSASL) scram() (*kafka.SCRAM, error) {
	if s == nil {
		return nil, nil
	}
	info, err := os.Stat(s.PasswordFile)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, and others could read it: chmod 600 %s", s.PasswordFile, info.Mode().Perm(), s.PasswordFile)
	}
	b, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return nil, err
	}
	password, _, _ := strings.Cut(string(b), "\n")
	if password = strings.TrimSuffix(password, "\r"); password == "" {
		return nil, fmt.Errorf("%s has no password in its first line", s.PasswordFile)
	}
	return &kafka.SCRAM{Mechanism: s.Mechanism, User: s.User, Password: password}, nil
}
