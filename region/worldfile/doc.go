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
//	pops:                      # id, title, place, serves, admin, key, witness, drain, users
//	dns:                       # name, address, http, admin, key
//	ids:                       # name, address, admin, key
//	segments:                  # - {uins: 1000000-1999999, home: sh}
//	retired:                   # region IDs that may never come back
//	carriers:                  # - {name: cmcc, asns: [9808, 56040]}
//	places:                    # - {prefix: 127.0.0.0/8, place: {...}, asn: 64512}
//	rules:                     # - {name, match: {...}, act: {...}}, first match wins
//
// A match holds when all its fields hold: all, any (lists of matches), not (a
// match), services, uins (1000001 or 1000000-1000099), percent ({salt, share:
// 5%}), versions (80000, 80000-80099, 80000-), platforms, prefixes, countries,
// continents, asns, carriers, homes, acting. An act names pops or regions, and
// may say nearest and ttl.
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
