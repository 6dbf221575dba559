package deps

// An edge lets a package import another one of this module, for a reason.
type edge struct{ from, to, why string }

// edges is the table of the tree. Everything below
// cmd/homing may import anything, and nobody else may import that, so it has no
// lines here; neither do tests.
//
// Before adding a line: roles (region, replicator, dns, accel, ids) do not
// import each other. A role declares the small interface it needs, and
// cmd/homing joins them.
var edges = []edge{
	{"region/homingv1/generate", "", "a program of its own"},
	{"dns/geo/generate", "", "a program of its own"},
	{"dns/geo/generate/country", "", "another"},

	{"deploy/lab", "", "a program of its own"},

	{"region/journal", "region", "records name origin, owner and epoch in the kernel's types"},
	{"region/store", "region", "the contract speaks of owners, epochs and fences"},
	{"region/store", "region/journal", "a commit is durable together with its journal records"},
	{"region/store/pebble", "region", "an engine keeps what the contract speaks of"},
	{"region/store/pebble", "region/journal", "it writes and reads the journal's bytes"},
	{"region/store/pebble", "region/store", "it implements the contract"},
	{"region/disk", "region", "a full disk is a region.Error"},
	{"region/store/pebble", "region/disk", "a log that runs into a full disk is lost"},
	{"region/store/pebble", "region/store/internal/partition", "it makes the steps durable"},
	{"region/store/pebble", "region/store/internal/metrics", "engines are counted alike"},
	{"region/store/postgres", "region/store/internal/metrics", "engines are counted alike"},
	{"region/store/internal/metrics", "region", "refusals are counted by kind of error"},
	{"region/store/internal/partition", "region", "states and steps speak of owners, epochs and fences"},
	{"region/store/internal/partition", "region/journal", "a step numbers, chains and digests records"},
	{"region/store/internal/partition", "region/store", "a step is what the contract says of one partition"},
	{"region/store/postgres", "region", "an engine keeps what the contract speaks of"},
	{"region/store/postgres", "region/journal", "it writes and reads the journal's bytes"},
	{"region/store/postgres", "region/store", "it implements the contract"},
	{"region/store/postgres", "region/store/internal/partition", "it makes the steps durable"},
	{"region/store/pebble/plain", "region/store", "it takes the batches that the engine takes"},
	{"region/store/postgres/plain", "region", "partitions and owners"},
	{"region/store/postgres/plain", "region/journal", "its records are the engine's, to be compared fairly"},
	{"region/store/postgres/plain", "region/store", "it takes the batches that the engine takes"},
	{"region/store/memory", "region", "an engine keeps what the contract speaks of"},
	{"region/store/memory", "region/journal", "it keeps the journal's batches"},
	{"region/store/memory", "region/store", "it implements the contract"},
	{"region/store/memory", "region/store/internal/partition", "it keeps what the steps write"},
	{"region/store/dump", "region", "rows have owners, homes and epochs"},
	{"region/store/dump", "region/journal", "a dump has the journal's batches, and its chain is checked"},
	{"region/store/dump", "region/store", "the limits of a row"},
	{"region/store/dump", "region/store/internal/partition", "it spells a partition's state, and is what engines dump to"},
	{"region/store/mend", "region", "rows have owners, homes and epochs"},
	{"region/store/mend", "region/journal", "a replica's position is in a stream"},
	{"region/store/mend", "region/store", "it mends what satisfies the contract"},
	{"region/store/mend", "region/store/dump", "what the origin has comes as a part of a dump"},
	{"region/store/mend", "region/store/internal/partition", "it reads rows as engines dump them"},
	{"region/store/storetest", "region", "the suite makes owners and epochs"},
	{"region/store/storetest", "region/journal", "the suite follows the journal's chain"},
	{"region/store/storetest", "region/store", "the suite is of the contract"},

	{"region/succession", "region", "worlds say who acts for a home"},
	{"region/succession", "region/journal", "term records are written into it"},
	{"region/succession", "region/store", "turns and handovers are the store contract's types"},

	{"region/wire", "region", "errors on the wire are the kernel's kinds"},
	{"region/wire", "region/homingv1", "bodies of HELLO, redirects and errors"},
	{"region/peer", "region", "nodes' keys are in the world"},
	{"region/ticket", "region", "a ticket names an owner and is signed with a region's key"},
	{"region/ticket", "region/wire", "the proof of the device key is part of the wire"},
	{"region/keeper", "region", "it keeps, checks and serves worlds"},
	{"region/keeper", "region/peer", "nodes fetch worlds from each other, and votes must come from voters"},
	{"region/gossip", "region", "members are the nodes of a world; a world is announced by version and hash"},
	{"region/worldfile", "region", "it compiles YAML into a world"},

	{"region/core", "region", "admission, owners, errors"},
	{"region/core", "region/homingv1", "requests, answers and stored rows are its messages"},
	{"region/core", "region/journal", "it executes command records and names tables by class"},
	{"region/core", "region/store", "every change is a batch of it"},
	{"region/core", "region/ticket", "it issues and checks tickets"},
	{"region/core", "region/wire", "proofs are verified over the bytes the wire defines"},
	{"region/access", "region", "placement and errors, for redirects"},
	{"region/access", "region/core", "it serves the core to clients"},
	{"region/access", "region/homingv1", "bodies of every request"},
	{"region/access", "region/wire", "frames and HELLO"},
	{"region/rpc", "region", "processes of a region, and errors"},
	{"region/rpc", "region/homingv1", "bodies of the handshake and of errors"},
	{"region/rpc", "region/wire", "errors cross a connection in one way"},
	{"region/store/remote", "region", "owners, epochs and errors"},
	{"region/store/remote", "region/homingv1", "bodies of reads and commits"},
	{"region/store/remote", "region/journal", "tables and commands are its types"},
	{"region/store/remote", "region/rpc", "it is the store's contract over the network"},
	{"region/store/remote", "region/store", "it is the store's contract over the network"},
	{"region/store/remote", "region/wire", "epochs are written in one way"},
	{"region/access/route", "region", "owners, ranges and errors"},
	{"region/access/route", "region/access", "it is the logic of an access process, and serves that of a logic process"},
	{"region/access/route", "region/access/internal/rendezvous", "who serves an owner"},
	{"region/access/presence", "region", "users and errors"},
	{"region/access/presence", "region/access", "the connections of an access process"},
	{"region/access/presence", "region/access/internal/rendezvous", "who holds a segment"},
	{"region/access/presence", "region/homingv1", "bodies of announcements and notices"},
	{"region/access/presence", "region/rpc", "processes of a region tell each other"},
	{"region/access/route", "region/core", "callers and devices"},
	{"region/access/route", "region/homingv1", "bodies of every request"},
	{"region/access/route", "region/rpc", "access calls logic"},
	{"region/access/route", "region/wire", "numbers of the methods, and errors"},
	{"region/access", "region/access/webchat", "its web listener serves the chat page"},
	{"region/access/accesstest", "region", "a world for tests of clients and POPs"},
	{"region/access/accesstest", "region/core", "it answers as the core would"},
	{"region/access/accesstest", "region/homingv1", "bodies of every request"},
	{"region/access/accesstest", "region/wire", "proofs"},
	{"region/client", "region", "owners, errors, epochs"},
	{"region/client", "region/answer", "it verifies what HTTPDNS says"},
	{"region/answer", "region", "regions' keys, and errors"},
	{"region/client", "region/homingv1", "bodies of every request"},
	{"region/client", "region/wire", "frames, HELLO and proofs"},

	{"replicator", "region", "streams are between regions"},
	{"replicator", "region/journal", "it carries batches and follows their chain"},
	{"replicator", "region/store", "gaps, positions and heads are the store contract's types"},
	{"replicator", "region/store/dump", "the part of a store that another region's copy begins with, and the scan of rows"},
	{"replicator", "region/store/mend", "a copy is begun, and repaired, by comparison"},
	{"replicator/kafka", "region", "errors"},
	{"replicator/kafka", "replicator", "it implements the queue"},

	{"dns/steer", "region", "a pure function of the world"},
	{"dns/geo", "dns/steer", "it finds the facts that steering asks for"},
	{"dns/geo", "region", "places and carriers"},
	{"dns/health", "dns/steer", "it implements the health that steering asks for"},
	{"dns/health", "region", "it checks what the world lists"},
	{"dns/health", "region/wire", "a check may say HELLO as a client would"},
	{"dns/tap", "dns/authority", "the query log that it writes in another format"},
	{"dns/authority", "dns/steer", "its answers are steering's"},
	{"dns/authority", "dns/authority/static", "names that nobody steers"},
	{"dns/authority/static", "region", "errors"},
	{"dns/authority", "region/answer", "the header and parameter of signed answers"},
	{"dns/authority", "region", "names carry UINs; the zone is the world's"},

	{"accel", "accel/relay", "moves the bytes of a connection"},
	{"accel", "region", "who acts for the client's home"},
	{"accel", "region/homingv1", "reads HELLO, writes redirects"},
	{"accel", "region/wire", "frames"},

	{"deploy/lab/script", "deploy/lab/wan", "it reads the settings of lines where a scenario has them"},
	{"deploy/lab/traffic", "region", "users and errors"},
	{"deploy/lab/traffic", "region/client", "people use the SDK"},
	{"deploy/lab/traffic", "region/homingv1", "bodies of messages"},

	{"ids", "region", "owners, segments, errors"},
	{"ids", "region/peer", "only regions may claim and allot"},
	{"ids/pebble", "ids", "it implements the store of ids"},
	{"ids/pebble", "region", "owners and errors"},
	{"ids/pebble", "region/disk", "a log that runs into a full disk is lost"},
	{"ids/idstest", "ids", "the suite is of its contract"},
	{"ids/idstest", "region", "the suite makes owners"},
	{"deploy/test/kafkatest", "deploy/test/child", "brokers end with the tests"},
	{"deploy/test/pgtest", "deploy/test/child", "servers end with the tests"},
}

// An engine is somebody else's module and who may import it.
type engine struct {
	path      string   // import path or the beginning of it
	importers []string // packages of this module, "x/..." with those below; nil is everybody but the kernel
	why       string
}

// engines lists every module that code outside tests imports. Replacing one
// has to stay local, so most have one importer.
var engines = []engine{
	{"github.com/segmentio/kafka-go", []string{"replicator/kafka"}, "the queue's client"},
	{"github.com/twmb/franz-go", []string{"replicator/embedded"}, "the embedded broker"},
	{"github.com/klauspost/compress", []string{"replicator", "replicator/kafka"}, "parts of stores, and batches, cross oceans"},
	{"github.com/miekg/dns", []string{"dns/authority", "dns/authority/static"}, "DNS messages"},
	{"github.com/dnstap/golang-dnstap", []string{"dns/tap"}, "dnstap's messages"},
	{"github.com/farsightsec/golang-framestream", []string{"dns/tap"}, "dnstap's framing"},
	{"golang.org/x/net", []string{"cmd/homing/bench"}, "the load of bench dns: messages, and many packets per system call"},
	{"golang.org/x/sys", []string{"dns/authority", "cmd/homing/bench", "deploy/lab/netns"}, "many packets per system call; network namespaces and TUN devices"},
	{"github.com/cockroachdb/pebble/v2", []string{"region/store/pebble", "region/store/pebble/plain", "ids/pebble", "region/disk"}, "the embedded engine, and its file system"},
	{"github.com/lib/pq", []string{"region/store/postgres", "region/store/postgres/plain"}, "PostgreSQL"},
	{"github.com/hashicorp/serf", []string{"region/gossip"}, "membership"},
	{"github.com/hashicorp/memberlist", []string{"region/gossip"}, "serf's transport and its configuration"},
	{"github.com/quic-go/quic-go", []string{"dns/authority"}, "DNS over QUIC"},
	{"github.com/oschwald", []string{"dns/geo"}, "the MaxMind format, read"},
	{"github.com/maxmind/mmdbwriter", []string{"dns/geo/generate/..."}, "the MaxMind format, written"},
	{"aidanwoods.dev/go-paseto", []string{"region/ticket"}, "tickets"},
	{"github.com/spf13/cobra", []string{"cmd/homing/..."}, "the command line"},
	{"github.com/coder/websocket", []string{"region/access"}, "the web listener"},
	{"github.com/pires/go-proxyproto", []string{"accel", "region/access"}, "the client's address, from POP to region: one writes it, the other reads it"},
	{"github.com/bufbuild/protocompile", []string{"region/homingv1/generate"}, "reads .proto files"},
	{"github.com/goccy/go-yaml", []string{"region/worldfile", "cmd/homing/node", "cmd/homing/demo", "cmd/homing/bench", "cmd/homing/dnsimport"}, "what operators write: the world and a node's file; demo and bench write them for worlds of their own"},
	{"connectrpc.com/connect", []string{"region/homingv1", "region/wire", "region/access", "region/client"}, "the short connection, both ends, and its errors"},
	{"golang.org/x/text", []string{"cmd/homing/dnsimport"}, "countries' codes of three letters"},
	{"golang.org/x/term", []string{"cmd/homing/cli"}, "the terminal chat"},

	{"github.com/chromedp", []string{"cmd/homing/browsertest"}, "pages are tested in a browser"},
	{"pgregory.net/rapid", []string{"region/store/storetest", "ids/idstest"}, "contract suites compare engines with a naive twin"},
	{"github.com/anishathalye/porcupine", []string{"ids/idstest"}, "a handle's history is linearizable"},

	{"google.golang.org/protobuf", nil, "messages"},
	{"github.com/prometheus/client_golang", nil, "metrics, with the registry as an argument"},
	{"github.com/hashicorp/golang-lru/v2", nil, "bounded caches"},
}

// kernelMay lists packages of the standard library of which the kernel may use
// only what is pure, and what that is.
var kernelMay = map[string][]string{
	"net":  {"SplitHostPort", "JoinHostPort"},
	"sync": {"Once", "OnceFunc", "OnceValue", "OnceValues"},
}

// kernelMustNot lists what would make the kernel's answers depend on more than
// its arguments.
var kernelMustNot = []string{
	"context", "crypto/rand", "io/fs", "io/ioutil", "log", "log/slog", "math/rand", "math/rand/v2", "net/http", "os",
	"os/exec", "runtime", "sync/atomic", "syscall", "testing", "time", "unsafe",
}
