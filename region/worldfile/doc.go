// Package worldfile turns the YAML that an operator edits into a world that
// nodes believe.
//
// Guarantee: what compiles is valid by itself ([region.World.Validate]) and may
// follow its parents ([region.CheckSuccessor]); every mistake is one line that
// says file, line, column, what is wrong and what to do; and one ledger never
// signs two worlds that could split its nodes.
//
// # The file
//
// It says how the world shall be, not how it came about. Versions, parents and
// acting counters are not in it: they follow from the world before, which the
// ledger has. Going back to an older file is therefore a rollback as it must
// be: old content with today's counters.
//
//	name: demo                 # never changes
//	zone: demo.test            # DNS zone of the service
//	partitions: 8              # never changes
//	threshold: 1               # operators that sign the next world
//	operators: [KEY, ...]      # public keys, base64; left out: keys/operator.pub
//	root: KEY                  # left out: keys/root.pub
//	steering: {ttl: 30, answers: 3, all-down: everything}
//	regions:
//	  - id: sh
//	    title: Shanghai
//	    place: {city: Shanghai, country: CN, continent: AS, lat: 31.23, lon: 121.47}
//	    zones: [a, b, c]
//	    backups: [hk, ca]      # in order of preference
//	    acting: sh             # who serves this home's owners; left out: itself
//	    key: KEY               # left out: keys/region-sh.pub
//	    serves: {long: IP:PORT, short: IP:PORT, web: IP:PORT}
//	    admin: HOST:PORT
//	    queue: HOST:PORT                # brokers between commas, queue groups between semicolons
//	    users: 100000          # capacity
//	pops:                      # id, title, place, serves, admin, key, witness, drain, drain-share, users
//	dns:                       # name, address, http, admin, key
//	ids:                       # name, address, admin, key
//	segments:                  # - {uins: 1000000-1999999, home: sh}
//	retired:                   # region IDs that may never come back
//	carriers:                  # - {name: cmcc, asns: [9808, 56040]}
//	places:                    # - {prefix: 127.0.0.0/8, place: {...}, asn: 64512}
//	rules:                     # - {name, match: {...}, act: {...}}, first match wins
//
// A place may also say its subdivision (ISO 3166-2: CN-SH). steering's all-down is
// everything, last-known-good or nothing.
//
// # Rules
//
// A match holds when all its fields hold, and a list when one of its entries
// does: all, any (lists of matches), not (a match), services, uins (1000001 or
// 1000000-1000099), percent ({salt, share: 5%}), versions (80000, 80000-80099,
// 80000-), platforms, prefixes, countries, subdivisions, cities, continents, asns,
// carriers, homes, acting (the region that acts for the client's home),
// healthy-pops, healthy-regions (one of them is healthy).
//
// An act names a pool: pops and regions in order of preference, or
//
//	pool:
//	  - {pop: pop-1, weight: 3}              # three quarters of the clients
//	  - {pop: pop-2, drain: 20%}             # the last quarter, but for a fifth of it
//	  - {region: sh, tier: 1}                # only when tier 0 has nobody left
//	order: weighted                          # written, nearest, measured (by network coordinates) or weighted
//	band: 300km                              # nearest: so much farther counts as equally near; measured: 20ms
//	sticky: uin                              # or prefix: what a client keeps its choice by
//	spill: 85%                               # of a member's capacity (users): from there on others get a growing part
//	all-down: last-known-good                # or next (rule), everything, nothing: when health leaves nobody
//	ttl: 20                                  # seconds
//
// or nothing, which is the built-in rule's pool. What the words mean exactly is
// said by package dns/steer; testdata/rules.yaml has all of them.
//
// # The operator's directory
//
//	world.yaml           the file above
//	genesis.json         the first world, for nodes to start with
//	ledger.jsonl         every world signed, one JSON object a line, mode 0600
//	keys/NAME.pem        private keys, PKCS#8 PEM, mode 0600: operator, root, region-sh, pop-pop-1, dns-..., ids-...
//	keys/NAME.pub        their public halves, base64
//
// keys/root.pem belongs on paper or in a safe, the other private keys on their
// nodes.
package worldfile
